"""Target `gpu`."""
