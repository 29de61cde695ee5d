"""Target `onnx`."""
