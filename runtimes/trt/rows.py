"""Rows of a report that only engines have: their size, and what their kernel tables say."""

from __future__ import annotations

from pathlib import Path

from sprint_export.batches import find_batch
from sprint_export.devices import find_device
from sprint_export.export.bundle import find_artifact, locate, locate_kind
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement, Metric
from sprint_export.nouns.target import Device
from sprint_export.nouns.work import Work
from sprint_export.runtimes.trt.kernels import Kernel, list_real, price_kernels, read_kernels

METRICS = tuple(
    Metric(name, adds_up=True)
    for name in ("engine_mb", "kernels", "priced_ms", "moved_mb", "gflop", "fused_attention", "kernels_*")
)


def list_work(bundle: Bundle, role: str, device: Device) -> tuple[Work, ...] | None:
    """The kernels of a network's engine, of the device's compute capability where the bundle has one; None: no engine."""
    built = {a.device: a for a in bundle.artifacts if (a.role, a.kind) == (role, "kernels") and a.device is not None}
    alike = [name for name in built if find_device(name).compute_capability == device.compute_capability]
    chosen = next(iter([*alike, *built]), None)
    if chosen is None:
        return None
    return read_work(locate(bundle, built[chosen].path))


def read_work(table: Path) -> tuple[Work, ...]:
    """The kernels of a table in a file.

    Raises:
        KernelTableError: it is none.
    """
    return tuple(map(_to_work, list_real(read_kernels(table))))


def _to_work(kernel: Kernel) -> Work:
    reads, writes = ({each.name: each.bytes for each in tensors} for tensors in (kernel.inputs, kernel.outputs))
    return Work(kernel.name, kernel.flop, kernel.dtype if kernel.flop else "", kernel.bytes, kernel.nodes, reads, writes)


def weigh_engines(bundle: Bundle) -> list[Measurement]:
    """Bytes on disk of the device's engines."""
    engines = [(record.role, find_artifact(bundle, record.role, "engine", bundle.device)) for record in bundle.components]
    return [
        Measurement("engine_mb", engine.bytes / 1e6, "MB", role, note="TensorRT engine")
        for role, engine in engines
        if engine is not None
    ]


def summarize_kernels(bundle: Bundle) -> list[Measurement]:
    """What the builder chose for each engine, priced from the device's published peaks. Not a measured latency."""
    rows, device, batch = [], find_device(bundle.device), find_batch(bundle)
    run = f" for {batch} pictures" if batch > 1 else ""
    priced = "a picture, from the kernel table and published peaks, not run"
    for record in bundle.components:
        table = locate_kind(bundle, record.role, "kernels", bundle.device)
        if table is None:
            continue
        summary = price_kernels(read_kernels(table), device)
        rows += [
            Measurement("kernels", float(summary.kernels), "", record.role, note=f"in the engine for {device.title}"),
            Measurement(
                "priced_ms",
                summary.milliseconds / batch,
                "ms",
                record.role,
                note=priced,
            ),
            Measurement("moved_mb", summary.bytes / 1e6, "MB", record.role, note=f"bytes read and written by all kernels{run}"),
            Measurement("gflop", summary.flop / 1e9, "GFLOP", record.role, note=f"gemm, convolution and attention kernels{run}"),
            Measurement("fused_attention", float(summary.attention_kernels), "", record.role, note="attention kernels"),
        ]
        rows += [
            Measurement(f"kernels_{kind}", float(count), "", record.role, note=f"that multiply in {kind}")
            for kind, count in sorted(summary.by_dtype.items())
        ]
    return rows
