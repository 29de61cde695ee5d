"""Before one has the device: memory, priced time, what dominates it, and what would help."""
