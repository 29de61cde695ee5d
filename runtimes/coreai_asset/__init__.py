"""Target `coreai`."""
