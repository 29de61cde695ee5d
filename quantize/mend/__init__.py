"""What is done to weights before they are rounded, so that less is lost: smoothing, GPTQ, bias correction."""

if __name__ != "sprint_export.quantize.mend":
    raise ImportError("import sprint_export.quantize.mend, not the bare folder 'mend'")
