"""Networks that families share: modules with weights by name, one file each."""
