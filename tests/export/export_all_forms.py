"""Run as a process of its own: one small component in every form of Apple's files, below the folder that is given."""

from __future__ import annotations

import sys
from pathlib import Path

from sprint_export.export.to_coreai import writer as to_coreai
from sprint_export.export.to_coreml import writer as to_coreml
from sprint_export.nouns.target import Options
from sprint_export.registry import load_member
from tests.export.to_onnx.graphs import quantize_small, small_component

FORMS = {
    "coreml-fp16": Options("iOS18", "all"),
    "coreml-int8": Options("iOS18", "all"),
    "coreml-w4": Options("iOS18", "all"),
    "coreml-int8-parts": Options("iOS18", "all", part_megabytes=0.008),  # type: ignore[arg-type]  # 8 kB: several parts
    "coreai-int8": Options("iOS27", "gpu"),
}


def main(out: Path) -> None:
    """Write them all."""
    for form, options in FORMS.items():
        name, precision = form.split("-")[:2]
        target = load_member("target", name).TARGET
        component = small_component() if precision == "fp16" else quantize_small(precision, "fp16", 0)
        (out / form).mkdir(parents=True)
        exporter = to_coreml if name == "coreml" else to_coreai
        exporter.write_component(component, target, precision, options, out / form)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
