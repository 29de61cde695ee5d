"""What can be compared: one file a kind, found by its file, as targets and families are."""
