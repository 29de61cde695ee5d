"""Target `openvino`."""

if __name__ != "sprint_export.runtimes.openvino_ir":
    raise ImportError("import sprint_export.runtimes.openvino_ir, not the bare folder 'openvino_ir'")
