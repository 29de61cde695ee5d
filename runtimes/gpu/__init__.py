"""Target `gpu`: ONNX graphs in 8 bits for ONNX Runtime's providers of GPUs; run by the runtime of onnx_cpu/."""
