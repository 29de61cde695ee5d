"""Networks as Core ML packages: captured by torch.export, converted by coremltools, weights filled in part by part."""
