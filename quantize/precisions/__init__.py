"""One file is one precision: a `Precision` value and nothing else."""

if __name__ != "sprint_export.quantize.precisions":
    raise ImportError("import sprint_export.quantize.precisions, not the bare folder 'precisions'")
