"""What the target `trt` is made of beside its file: the library and its one logger, the GPUs, the running engine."""

if __name__ != "sprint_export.runtimes.trt":
    raise ImportError("import sprint_export.runtimes.trt, not the bare folder 'trt'")
