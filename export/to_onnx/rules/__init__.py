"""Graph edits that suit one target's kernels, after Q/DQ: one file is one edit, `rewrite(model)`, named in Target.rewrites.

A rewrite's docstring opens with its algebra; it edits in place, leaves alone what it does not fit, and pulls no large weight.
"""

if __name__ != "sprint_export.export.to_onnx.rules":
    raise ImportError("import sprint_export.export.to_onnx.rules, not the bare folder 'rules'")
