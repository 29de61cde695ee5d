"""Run as a process of its own: one small component in every form of Apple's files, below the folder that is given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sprint_export.export.exporter import load_exporter
from sprint_export.registry import load_target
from tests.export.to_onnx.graphs import quantize_small, small_component

FORMS: dict[str, Any] = {
    "coreml-fp16": {"deployment_target": "iOS18", "compute_unit": "all"},
    "coreml-int8": {"deployment_target": "iOS18", "compute_unit": "all"},
    "coreml-w4": {"deployment_target": "iOS18", "compute_unit": "all"},
    "coreml-int8-parts": {"deployment_target": "iOS18", "compute_unit": "all", "part_megabytes": 0.008},  # 8 kB
    "coreai-int8": {"deployment_target": "iOS27", "compute_unit": "gpu"},
}


def main(out: Path) -> None:
    """Write them all."""
    for form, options in FORMS.items():
        name, precision = form.split("-")[:2]
        target = load_target(name)
        component = small_component() if precision == "fp16" else quantize_small(precision, "fp16", 0, target=name)
        (out / form).mkdir(parents=True)
        load_exporter(target).write_component(component, target, precision, options, out / form)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
