"""What Python makes of a bundle, a prompt and a seed, for `sprint-draw BUNDLE --check reference.json` on a Mac or a device.

python examples/apple/make_reference.py BUNDLE "a red circle above a blue square" -o reference.json

Runs on any system: a Core ML bundle is evaluated by `coreml-checker`, not by Core ML, so that the comparison says something.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sprint_export import open_bundle
from sprint_export.noise import make_noise
from sprint_export.session import Pipeline

MIN_PSNR_DB = 35.0  # the gate apple/ml-stable-diffusion puts behind every conversion; accumulation order alone leaves more


def make_reference(pipe: Pipeline, prompt: str, seed: int) -> dict[str, Any]:
    """Token ids, mask, noise and picture as plain lists, under the names Reference.swift reads."""
    noise = make_noise(seed, pipe.plan.steps, 1, pipe.latent_shape)
    ids, mask = pipe.reader.read([prompt])
    picture = pipe([prompt], noise=noise)[0]
    return {
        "prompt": prompt,
        "ids": ids[0].tolist(),
        "mask": mask[0].tolist(),
        "noise": noise.ravel().tolist(),  # float32 as float64: JSON holds it exactly
        "picture": picture.ravel().tolist(),  # red, green, blue, row by row
        "min_psnr_db": MIN_PSNR_DB,
    }


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("prompt")
    parser.add_argument("-o", "--out", type=Path, default=Path("reference.json"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pipe = open_bundle(arguments.bundle, runtime="coreml-checker", one_at_a_time=True)
    arguments.out.write_text(json.dumps(make_reference(pipe, arguments.prompt, arguments.seed)) + "\n", "utf-8")
    print(f"{arguments.out}: drawn by {pipe.description}")


if __name__ == "__main__":
    main()
