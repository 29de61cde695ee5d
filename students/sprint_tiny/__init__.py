"""The embedded student: its weights, and the world of shapes it was trained on with a detector for it."""
