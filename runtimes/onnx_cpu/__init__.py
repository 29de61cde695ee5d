"""Target `onnx`."""

if __name__ != "sprint_export.runtimes.onnx_cpu":
    raise ImportError("import sprint_export.runtimes.onnx_cpu, not the bare folder 'onnx_cpu'")
