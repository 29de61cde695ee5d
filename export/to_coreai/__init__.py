"""Components as Core AI assets."""

if __name__ != "sprint_export.export.to_coreai":
    raise ImportError("import sprint_export.export.to_coreai, not the bare folder 'to_coreai'")
