"""Components as ONNX graphs."""

if __name__ != "sprint_export.export.to_onnx":
    raise ImportError("import sprint_export.export.to_onnx, not the bare folder 'to_onnx'")
