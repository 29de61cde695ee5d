"""One file is one scheme: how weights are stored, what happens to inputs, what a bundle must reach (scheme.py)."""

if __name__ != "sprint_export.quantize.schemes":
    raise ImportError("import sprint_export.quantize.schemes, not the bare folder 'schemes'")
