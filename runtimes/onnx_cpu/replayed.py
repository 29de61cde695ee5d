"""Runs of an ONNX Runtime session whose launches are replayed from a CUDA graph.

ONNX Runtime records a run and replays it where inputs and outputs lie at addresses that stay: so they are bound once, on the GPU,
and what is fed is copied into them. A graph with a node on the CPU cannot be recorded, and opening it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sprint_export.nouns.student import TensorSpec

if TYPE_CHECKING:
    from sprint_export.session import Array

DEVICE, FIRST = "cuda", 0  # ONNX Runtime's name, and which of them


class BoundRun:
    """Inputs and outputs of one session, on the GPU.

    Args:
        ort: the library.
        session: onnxruntime.InferenceSession on CUDA's provider.
        outputs: what it gives, of fixed sizes.
    """

    def __init__(self, ort: Any, session: Any, outputs: Sequence[TensorSpec]) -> None:
        self._ort, self._session, self._outputs = ort, session, outputs
        self._binding: Any = None
        self._inputs: dict[str, Any] = {}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs, in their order, on the CPU."""
        if self._binding is None:
            self._bind(feeds)
        else:
            for name, value in feeds.items():
                self._inputs[name].update_inplace(value)
        self._session.run_with_iobinding(self._binding)
        found: list[Array] = self._binding.copy_outputs_to_cpu()
        return found

    def _bind(self, feeds: Mapping[str, Array]) -> None:
        self._binding = self._session.io_binding()
        for name, value in feeds.items():
            self._inputs[name] = self._ort.OrtValue.ortvalue_from_numpy(value, DEVICE, FIRST)
            self._binding.bind_ortvalue_input(name, self._inputs[name])
        for spec in self._outputs:
            place = self._ort.OrtValue.ortvalue_from_shape_and_type(list(spec.shape), spec.dtype, DEVICE, FIRST)
            self._binding.bind_ortvalue_output(spec.name, place)
