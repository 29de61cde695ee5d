"""Target `openvino`: OpenVINO IR for CPUs, Intel GPUs and NPUs, run by OpenVINO."""
