"""Components as ONNX graphs."""
