"""From a student to a picture in five calls: the stages one by one, as `sprint-export --target onnx-int8` runs them.

python examples/export_and_draw.py --out my-folder
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from sprint_export import load_student, open_bundle, quantize_student, specialize_student
from sprint_export.export import export_student
from sprint_export.export.publishing import publish_bundle
from sprint_export.run_checks import read_deployment

PROMPT = "a small red circle above a large blue square on a white background"


def main() -> None:
    """Export the embedded student to ONNX with INT8 weights and activations, then draw with the files alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("export-and-draw"))
    out: Path = parser.parse_args().out

    student = load_student("sprint-tiny")  # stock diffusers classes, weights not read yet
    one_step = specialize_student(student, steps=1)  # the time path folds into the weights
    onnx = read_deployment("onnx-int8")  # a target, a precision, and the device they are for
    quantized = quantize_student(one_step, onnx.precision, onnx.target)  # ranges measured on the student's own prompts
    print(f"{sum(len(c.layers) for c in quantized.components.values())} layers will be stored in {onnx.precision}")

    out.mkdir(parents=True, exist_ok=True)
    made = export_student(quantized, onnx, out / "bundle")
    bundle = publish_bundle(made, out / "bundle")  # from the work folder, now that it is whole
    pipe = open_bundle(bundle.folder)  # from here on torch is not needed
    print(f"draws with {pipe.description}")
    Image.fromarray(pipe([PROMPT], seed=0)[0]).resize((256, 256), Image.Resampling.NEAREST).save(out / "picture.png")
    print(out / "picture.png")


if __name__ == "__main__":
    main()
