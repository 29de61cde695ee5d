"""The side of runtime_versions.py that runs in an old runtime's environment: a graph and its feeds in, outputs or an error out.

    python benchmarks/open_graphs.py FEEDS.json RESULTS.json      # needs numpy and one of onnxruntime, openvino

FEEDS.json is a list of {"graph": path, "feeds": an .npz, "outputs": an .npz to write}. Every graph is opened at default options,
but for shadows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def run_graph(graph: str, feeds: dict[str, Any]) -> list[Any]:
    """Outputs in order; an IR by OpenVINO's CPU plugin in float32, which older versions and other machines have too."""
    if graph.endswith(".xml"):
        import openvino

        model = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        values = model(feeds)
        return [values[output] for output in model.outputs]
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    if graph.endswith(".shadow.onnx"):  # never opened but by sprint-export, which asks for this (runtimes/onnx_cpu/target.py)
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(None, feeds)
    return outputs


def main(tasks: Path, results: Path) -> None:
    """Run all; a graph that cannot be opened is a finding, not an end."""
    found = []
    for task in json.loads(tasks.read_text("utf-8")):
        try:
            np.savez(task["outputs"], *run_graph(task["graph"], dict(np.load(task["feeds"]))))
            found.append(None)
        except Exception as error:  # each library has a dozen types of its own
            found.append(" ".join(str(error).split()))
    results.write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
