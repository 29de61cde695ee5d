"""Train the other embedded students: `python examples/train_sprint_tiny/others.py --work work`; a killed run goes on.

In this order, each saved when done: a teacher from the embedded student (recover.py), a ControlNet for it (control.py), a
TwinFlow student (twinflow.py) and a TBCM student (tbcm.py) from the teacher. Then all are measured on 512 held-out captions and
the same noise, as they are stored, in bfloat16, and written to `students/`: what they share with sprint-tiny is not copied.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import Log
from control import score_control, train_controlnet
from diffusers import SanaControlNetModel, SanaTransformer2DModel
from distill import held_out_set
from recover import recover_teacher
from resume import Budget
from tbcm import POINTS, train_tbcm
from teacher import Frozen, sample_euler, score
from twinflow import load_twin, save_model, score_twin, train_twinflow

COUNT = 512
STUDENTS = Path(__file__).parents[2] / "students"
TIMES = {1: [1.0], 2: [1.0, 0.6015625], 4: [1.0, 0.83203125, 0.6640625, 0.5]}  # of the released sampler, in bfloat16


def list_stages(work: Path, start: Path, minutes: list[float], log: Log, device: str) -> dict[str, Callable[[], None]]:
    """Stages by the name of the folder they leave in `work`."""
    teacher, controlnet, twinflow, tbcm = (60 * each for each in minutes)
    return {
        "teacher": lambda: recover_teacher(work, start, Budget(teacher, 5e-4), 64, log, device),
        "controlnet": lambda: train_controlnet(work, start, Budget(controlnet, 1e-3), 32, log, device),
        "twinflow": lambda: train_twinflow(work, start, Budget(twinflow, 3e-4), 32, log, device),
        "tbcm": lambda: train_tbcm(work, start, Budget(tbcm, 1e-4), 32, log, device),
    }


def package(work: Path, out: Path) -> None:
    """Write what the students have of their own, in bfloat16, over what lies in `out`."""
    save_model(load_twin(work / "twinflow"), out / "twinflow_tiny" / "transformer")
    save_model(SanaTransformer2DModel.from_pretrained(work / "tbcm"), out / "tbcm_tiny" / "transformer")
    save_model(SanaControlNetModel.from_pretrained(work / "controlnet"), out / "control_tiny" / "controlnet")


def measure(work: Path, start: Path, out: Path, log: Log, device: str) -> None:
    """Adherence of what was written, beside sprint-tiny and the teacher; figures.json in each folder."""
    frozen, (captions, noise) = Frozen.load(start, device), held_out_set(COUNT, device)
    text, mask = frozen.read(captions)
    teacher = SanaTransformer2DModel.from_pretrained(work / "teacher").to(device)
    sprint = SanaTransformer2DModel.from_pretrained(start / "transformer").to(device)
    tbcm = SanaTransformer2DModel.from_pretrained(out / "tbcm_tiny" / "transformer").to(device)
    twin = load_twin(out / "twinflow_tiny" / "transformer").to(device)
    controlnet = SanaControlNetModel.from_pretrained(out / "control_tiny" / "controlnet").to(device)
    end = sample_euler(teacher, noise, text, mask, POINTS)
    beside: dict[str, Any] = {}
    for name, model, steps in (("teacher", teacher, POINTS), ("teacher", teacher, 1), ("sprint-tiny", sprint, 1)):
        beside[f"{name}, {steps} steps"] = vars(score(model, frozen, captions, noise, steps))
    rows = {"tbcm, 1 steps": vars(score(tbcm, frozen, captions, noise, 1))}
    for name, model in (("teacher", teacher), ("sprint-tiny", sprint), ("tbcm", tbcm)):
        distance = (sample_euler(model, noise, text, mask, 1) - end).square().mean().item()
        rows[f"{name}, 1 steps: mean squared distance to the teacher's end"] = {"latents": distance}
    twins = {f"twinflow, {steps} steps": vars(score_twin(twin, frozen, captions, noise, TIMES[steps])) for steps in TIMES}
    controls = score_control(sprint, controlnet, frozen, captions, noise)
    for folder, found in (("twinflow_tiny", twins | beside), ("tbcm_tiny", rows | beside), ("control_tiny", controls)):
        (out / folder / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
        log(f"{folder}: " + "; ".join(f"{name}: {row.get('everything', row)}" for name, row in found.items()))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"), help="folder for stages, log and checkpoints")
    parser.add_argument("--start", type=Path, default=STUDENTS / "sprint_tiny", help="the student whose parts are shared")
    parser.add_argument("--out", type=Path, default=STUDENTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, nargs=4, default=(7, 14, 25, 20), metavar=("TEACHER", "CONTROL", "TWIN", "TBCM"))
    parser.add_argument("--stages", nargs="*", help="only these; default all, then measuring and writing")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1) if options.device == "cpu" else None
    log = Log(work / "others.log")
    for name, stage in list_stages(work, options.start, list(options.minutes), log, options.device).items():
        if name in (options.stages or (name,)) and not (work / name).exists():
            stage()
    if not options.stages:
        package(work, options.out)
        measure(work, options.start, options.out, log, options.device)


if __name__ == "__main__":
    main()
