"""Target `web`: ONNX graphs for a page, with its limits as gates; run here by the runtime of onnx_cpu/."""
