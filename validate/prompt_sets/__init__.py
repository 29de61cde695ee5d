"""Sets of prompts as they lie on a disk: one file a layout, found by its file, as metrics are."""
