"""What layers read on real prompts: the walk through the networks, records of it, and ranges chosen from them."""

if __name__ != "sprint_export.quantize.measure":
    raise ImportError("import sprint_export.quantize.measure, not the bare folder 'measure'")
