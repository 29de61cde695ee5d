"""One file is one scheme: how weights are stored, what happens to inputs, what a bundle must reach (scheme.py)."""
