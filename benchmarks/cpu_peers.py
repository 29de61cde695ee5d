"""What a user without this package would run on a CPU: the stock transformer, exported as its runtime's own guide says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cpu_networks
import numpy as np

PEERS = ("nncf", "plain-onnx-fp32")  # of the transformer


def prepare(pixels: int, engine: str, folder: Path) -> None:
    """Make a peer's file."""
    {"nncf": _quantize_with_nncf, "plain-onnx-fp32": _export_plain}[engine](pixels, folder)


def open_peer(pixels: int, engine: str, folder: Path) -> Callable[[], np.ndarray[Any, Any]]:
    """A peer's network, ready to run on the inputs of cpu_networks.py; answers with denoised latents as ours do."""
    import torch

    values = [value.numpy() for value in cpu_networks.stock_inputs(pixels, torch.float32).values()]
    latents = cpu_networks.make_feeds("transformer", pixels)["latents"]
    call = {"nncf": _open_openvino, "plain-onnx-fp32": _open_onnx}[engine](folder, values)
    return lambda: np.asarray(latents - call())


def _stock(pixels: int) -> tuple[Any, tuple[Any, ...]]:
    """The stock transformer with positional arguments, and their values."""
    import torch

    from sprint_export.weights import materialize

    component = cpu_networks.make_student(pixels).components["transformer"]
    inputs = cpu_networks.stock_inputs(pixels, torch.float32)

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = materialize(component.module, component.weights)

        def forward(self, *values: Any) -> Any:
            return self.inner(**dict(zip(inputs, values, strict=True)), return_dict=False)[0]

    return Positional().eval(), tuple(inputs.values())


def _quantize_with_nncf(pixels: int, folder: Path) -> None:
    """openvino.convert_model and nncf.quantize."""
    import nncf
    import openvino
    import torch

    module, values = _stock(pixels)
    with torch.no_grad():
        model = openvino.convert_model(module, example_input=values, input=[list(value.shape) for value in values])
    feeds = nncf.Dataset([[value.numpy() for value in values]])
    model = nncf.quantize(model, feeds, subset_size=1, model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(model, folder / "openvino_model.xml")


def _open_openvino(folder: Path, values: list[Any]) -> Callable[[], Any]:
    """Compiled as our session compiles ours."""
    import openvino

    model = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = model.create_infer_request()

    def run() -> Any:
        request.infer(dict(enumerate(values)))
        return request.get_output_tensor(0).data

    return run


def _export_plain(pixels: int, folder: Path) -> None:
    """torch.onnx.export."""
    import torch

    module, values = _stock(pixels)
    with torch.no_grad():
        torch.onnx.export(module, values, folder / "model.onnx", dynamo=True, external_data=True)


def _open_onnx(folder: Path, values: list[Any]) -> Callable[[], Any]:
    """As it is opened by default."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = dict(zip((value.name for value in session.get_inputs()), values, strict=True))
    return lambda: session.run(None, feeds)[0]
