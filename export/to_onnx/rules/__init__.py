"""Rewrite rules for one target's kernels, run after Q/DQ: one file is one rule (rule.py), named in `Target.rewrites`.

A rule's docstring opens with its algebra; it edits in place, leaves alone what it does not fit, and pulls no large weight.
"""
