"""Target `trt`: ONNX graphs with TensorRT engines built beside them: the library, the GPUs, kernel tables and their prices."""
