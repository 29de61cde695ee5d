"""Networks as Core AI assets: captured by torch.export, written by coreai-torch, weights with scales of ours."""
