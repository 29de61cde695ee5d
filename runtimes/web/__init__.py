"""Target `web`."""
