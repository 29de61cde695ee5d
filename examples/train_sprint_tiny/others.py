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
NAMES = ("control_tiny", "twinflow_tiny", "tbcm_tiny")
TIMES = {1: [1.0], 2: [1.0, 0.6015625], 4: [1.0, 0.83203125, 0.6640625, 0.5]}  # of the released sampler, in bfloat16


def list_stages(
    work: Path, start: Path, minutes: list[float], log: Log, device: str, batch: int
) -> dict[str, Callable[[], None]]:
    """Stages by the name of the folder they leave in `work`."""
    teacher, controlnet, twinflow, tbcm = (60 * each for each in minutes)
    return {
        "teacher": lambda: recover_teacher(work, start, Budget(teacher, 5e-4), 2 * batch, log, device),
        "controlnet": lambda: train_controlnet(work, start, Budget(controlnet, 1e-3), batch, log, device),
        "twinflow": lambda: train_twinflow(work, start, Budget(twinflow, 3e-4), batch, log, device),
        "tbcm": lambda: train_tbcm(work, start, Budget(tbcm, 1e-4), batch, log, device),
    }


def package(name: str, work: Path, out: Path) -> None:
    """Write what a student has of its own, in bfloat16, over what lies in `out`."""
    if name == "control_tiny":
        save_model(SanaControlNetModel.from_pretrained(work / "controlnet"), out / name / "controlnet")
    else:
        model = load_twin(work / "twinflow") if name == "twinflow_tiny" else SanaTransformer2DModel.from_pretrained(work / "tbcm")
        save_model(model, out / name / "transformer")


def measure(name: str, work: Path, start: Path, out: Path, device: str) -> dict[str, Any]:
    """Figures of one student as it was written: adherence, and what is its own to say."""
    frozen, (captions, noise) = Frozen.load(start, device), held_out_set(COUNT, device)
    if name == "control_tiny":
        controlnet = SanaControlNetModel.from_pretrained(out / name / "controlnet").to(device)
        return score_control(load_stock(start), controlnet, frozen, captions, noise)
    if name == "twinflow_tiny":
        twin = load_twin(out / name / "transformer").to(device)
        return {f"{steps} steps": vars(score_twin(twin, frozen, captions, noise, TIMES[steps])) for steps in TIMES}
    text, mask = frozen.read(captions)
    teacher, rows = SanaTransformer2DModel.from_pretrained(work / "teacher"), {}
    end = sample_euler(teacher, noise, text, mask, POINTS)
    rows[f"teacher, {POINTS} steps"] = vars(score(teacher, frozen, captions, noise, POINTS))
    for wording, model in (("teacher", teacher), ("sprint-tiny", load_stock(start)), ("tbcm-tiny", load_stock(out / name))):
        rows[f"{wording}, 1 steps"] = vars(score(model, frozen, captions, noise, 1)) | {
            "squared_distance_to_teachers_end": (sample_euler(model, noise, text, mask, 1) - end).square().mean().item()
        }
    return rows


def load_stock(student: Path) -> SanaTransformer2DModel:
    """A student's transformer, in float32."""
    return SanaTransformer2DModel.from_pretrained(student / "transformer").eval()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"), help="folder for stages, log and checkpoints")
    parser.add_argument("--start", type=Path, default=STUDENTS / "sprint_tiny", help="the student whose parts are shared")
    parser.add_argument("--out", type=Path, default=STUDENTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32, help="128 suits a GPU")
    parser.add_argument("--minutes", type=float, nargs=4, default=(7, 14, 25, 20), metavar=("TEACHER", "CONTROL", "TWIN", "TBCM"))
    parser.add_argument("--stages", nargs="*", help="only these; default all")
    parser.add_argument("--students", nargs="*", default=NAMES, help="what is then written and measured")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1) if options.device == "cpu" else None
    log = Log(work / "others.log")
    for name, stage in list_stages(work, options.start, list(options.minutes), log, options.device, options.batch).items():
        if name in (options.stages or (name,)) and not (work / name).exists():
            stage()
    for name in options.students:
        package(name, work, options.out)
        rows = measure(name, work, options.start, options.out, options.device)
        (options.out / name / "figures.json").write_text(json.dumps(rows, indent=1) + "\n")
        log(f"{name}: " + "; ".join(f"{wording}: {row['everything']:.1%}" for wording, row in rows.items()))


if __name__ == "__main__":
    main()
