"""Target `plain`: what ONNX Runtime runs, with one rewrite."""

if __name__ != "sprint_export.runtimes.plain":
    raise ImportError("import sprint_export.runtimes.plain, not the bare folder 'plain'")
