"""Target `coreml`: Core ML packages, run by Core ML on a Mac; elsewhere mil/ evaluates them in torch (checker.py)."""
