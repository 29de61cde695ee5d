"""Train the embedded student from nothing: `python examples/train_sprint_tiny/train.py --work work --out sprint_tiny`.

Autoencoder, text encoder, teacher and one-step student, each saved when done and skipped on the next run, so a killed run
goes on at the stage it was in; then the student is measured and packaged. Needs no downloads. About 2 hours on 2 CPU
cores; on a GPU (`--device cuda --batch 512`) not tried.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from autoencoder import train_autoencoder
from common import Log
from distill import consistency, regress
from package import package, write_figures
from teacher import train_teacher
from text import train_text_encoder


def main() -> None:
    """Run the stages that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"), help="folder for stages, log and checkpoints")
    parser.add_argument("--out", type=Path, default=Path("sprint_tiny"), help="the diffusers folder to write")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64, help="teacher and student batch; 512 suits a large GPU")
    parser.add_argument("--minutes", type=float, nargs=4, default=(9, 45, 20, 10), metavar=("AE", "TEACHER", "REGRESSION", "SCM"))
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    log = Log(work / "train.log")
    autoencoder, teacher, regression, scm = (60 * m for m in options.minutes)
    stages: tuple[tuple[str, Callable[[], None]], ...] = (
        ("vae", lambda: train_autoencoder(work, autoencoder, 48, log, options.device)),
        ("text_encoder", lambda: train_text_encoder(work, 60, 256, log, options.device)),
        ("teacher", lambda: train_teacher(work, teacher, options.batch, log, options.device)),
        ("regression", lambda: regress(work, regression, options.batch, log, options.device)),
        ("consistency", lambda: consistency(work, scm, options.batch, log, options.device)),
    )
    for name, stage in stages:
        if (work / name).exists():
            log(f"{name}: done before, skipped")
        else:
            stage()
    package(work, "regression", options.out)
    write_figures(work, "regression", options.out, log, options.device)


if __name__ == "__main__":
    main()
