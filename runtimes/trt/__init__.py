"""What the target `trt` is made of beside its file: the library and its one logger, the GPUs, the running engine."""
