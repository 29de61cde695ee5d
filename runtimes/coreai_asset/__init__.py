"""Target `coreai`."""

if __name__ != "sprint_export.runtimes.coreai_asset":
    raise ImportError("import sprint_export.runtimes.coreai_asset, not the bare folder 'coreai_asset'")
