"""Results of devices that nobody has: figures as a test wants them."""

from __future__ import annotations

from sprint_export.nouns.report import Measurement, PictureRow, Report
from sprint_export.runtimes.checking import Check, StageCheck
from sprint_export.validate.merging.result import DeviceResult

IDENTITY = "ab" * 32
PROMPT = "a red circle"


def make_result(
    label: str, identity: str = IDENTITY, psnr_db: float = 60.0, milliseconds: float | None = None, driver: str = ""
) -> DeviceResult:
    """One drawing, `psnr_db` from the reference; latencies where `milliseconds` are given. It claims to meet its gate."""
    rows = [
        Measurement("reference_psnr_db", psnr_db, "dB"),
        Measurement("reference_psnr_worst_db", psnr_db, "dB", limit="reference_psnr_worst_db>=0", verdict="met"),
        Measurement("reference_largest_difference", 3.0, "of 255"),
        Measurement("reference_other_inputs", 0.0, "pictures"),
    ]
    if milliseconds is not None:
        for role, share in (("transformer", 0.5), ("whole picture", 1.0)):
            rows += [Measurement(f"latency_p{p}_ms", milliseconds * share * (1 + p / 1000), "ms", role) for p in (50, 90)]
        rows.append(Measurement("peak_memory_mb", 120.0, "MB", "whole picture"))
    check = Check(
        prompt=PROMPT,
        seed=0,
        steps=1,
        largest=3,
        mean=0.1,
        psnr_db=psnr_db,
        stages=(StageCheck("transformer", 0, False, 0.01),),
        begins="transformer",
        before="ONNX Runtime 1.32.0 CPU",
        now="another runtime",
        passed=False,
    )
    picture = PictureRow(0, PROMPT, {"reference_psnr_db": psnr_db})
    report = Report("b", "onnx-fp32", "another runtime", "a machine", 1, tuple(rows), 1.0, (picture,), (), ("nobody looked",))
    return DeviceResult(identity, label, "cuda", driver, {"onnxruntime": "1.30.0"}, report, (check,))
