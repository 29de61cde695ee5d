"""What is done to weights before they are rounded, so that less is lost: smoothing, GPTQ, bias correction."""
