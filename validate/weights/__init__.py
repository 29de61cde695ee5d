"""Whether the weights in a bundle's files are those that quantization meant: tensor by tensor, without drawing anything."""
