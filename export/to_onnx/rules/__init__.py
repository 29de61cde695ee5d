"""Rewrite rules for one target's kernels, run after Q/DQ: one file is one rule (rule.py), named in `Target.rewrites`.

A rule's docstring opens with its algebra; it edits in place, leaves alone what it does not fit, and pulls no large weight.
"""

if __name__ != "sprint_export.export.to_onnx.rules":
    raise ImportError("import sprint_export.export.to_onnx.rules, not the bare folder 'rules'")
