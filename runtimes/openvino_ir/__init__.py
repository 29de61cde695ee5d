"""Target `openvino`."""
