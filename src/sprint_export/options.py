"""What one may ask of a target beside its precision, completed and checked before any work. Standard library only."""

from __future__ import annotations

from dataclasses import asdict, replace

from sprint_export.errors import InputError, RefusedError
from sprint_export.nouns.target import Device, Options, Target


def complete_options(target: Target, precision: str, device: Device, options: Options) -> Options:
    """The options with the target's or the device's choice where they were left open.

    Raises:
        InputError: the target has no such option, or the option no such value. RefusedError: one cannot work with the pair.
    """
    if options.part_megabytes is not None and options.part_megabytes < 1:
        raise InputError(f"part_megabytes={options.part_megabytes}: expected at least 1 (10^6 bytes of a file of weights)")
    if options.dynamic and target.one_size is not None:
        raise RefusedError(f"{target.name}-{precision} --dynamic: {target.one_size}; the nearest that can is onnx-int8")
    if target.complete is not None:
        return target.complete(precision, device, options)
    for name, value in asdict(replace(options, dynamic=False)).items():
        if value not in (None, False):
            raise InputError(f"{name}={value}: {target.name} targets have no such option; it is for coreml and coreai targets")
    return options
