"""Target `coreml`, and the checker that runs its packages elsewhere."""
