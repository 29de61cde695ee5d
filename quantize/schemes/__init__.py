"""One file is one precision: a `Precision` value and nothing else."""

if __name__ != "sprint_export.quantize.schemes":
    raise ImportError("import sprint_export.quantize.schemes, not the bare folder 'schemes'")
