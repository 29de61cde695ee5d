"""A numeric checker for Core ML ML programs that needs no Mac: the saved package is read and evaluated with torch.

program reads, constants decompress, the op files compute, evaluate runs, departure names the first op that leaves PyTorch.

It proves that the file says what the student computes. It does not predict a device bit by bit: accumulation order, 16-bit
accumulation on the Neural Engine and a runtime's own decompression bugs stay invisible.
"""
