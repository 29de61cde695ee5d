"""Networks as OpenVINO IR: the ONNX graph read by OpenVINO; 4-bit weights packed by NNCF."""
