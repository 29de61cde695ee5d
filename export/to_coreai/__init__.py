"""Components as Core AI assets."""
