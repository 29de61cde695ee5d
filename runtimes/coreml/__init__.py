"""Target `coreml`, and the checker that runs its packages elsewhere."""

if __name__ != "sprint_export.runtimes.coreml":
    raise ImportError("import sprint_export.runtimes.coreml, not the bare folder 'coreml'")
