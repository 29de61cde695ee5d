"""Where an error is born: what each block of a network gives, exported against PyTorch, on the same inputs of the network."""
