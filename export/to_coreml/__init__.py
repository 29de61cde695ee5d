"""Components as Core ML packages."""
