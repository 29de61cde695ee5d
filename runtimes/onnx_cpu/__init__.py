"""Target `onnx`, and ONNX Runtime on any of its providers, which runs the graphs of `gpu`, `web` and the shadows of `trt` too."""
