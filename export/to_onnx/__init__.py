"""Networks as ONNX graphs: captured, cleaned (passes), Q/DQ put in (qdq), shaped for kernels (rules/), written."""
