"""Components as Core ML packages."""

if __name__ != "sprint_export.export.to_coreml":
    raise ImportError("import sprint_export.export.to_coreml, not the bare folder 'to_coreml'")
