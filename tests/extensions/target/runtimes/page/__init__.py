"""Target `page`, laid out as in the package: all of it is in this folder."""
