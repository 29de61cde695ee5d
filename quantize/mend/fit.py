"""Which weights GPTQ fits, and to what: layers that store 4 bits and read floats, to the rows of the calibration prompts.

A network's prompts pass a layer together (quantize/measure/walk.py); X^T X is formed there, the weight rounded (gptq.py), kept
in the cache and forgotten, so one layer's matrices are in memory at a time, and a run that was killed goes on after its last
layer. Of many prompts the first that fit one chunk are taken: 8 of 300 tokens are 2,400 rows a layer. Where a network runs
several times for a picture the sums of its layers are kept until the last run.
Memory: about six times [in, in] in float32, 2 GB for 9,216 inputs; codes that are done are mapped from their files.
Covered: Linear layers and dense 1x1 convolutions. Embeddings and wide convolutions are rounded plainly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sprint_export.cache import hash_question, open_cache
from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError
from sprint_export.json_forms import to_json
from sprint_export.nouns.chain import EACH_STEP
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, Student
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.measure.streaming import Listener, count_rows_at_once
from sprint_export.quantize.measure.walk import Chunk, walk_networks
from sprint_export.quantize.mend.edits import pack_codes
from sprint_export.quantize.mend.gptq import fit_weight
from sprint_export.quantize.patterns import Layer, is_pointwise
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.tensor_files import hash_tensors, load_tensors, save_tensors

if TYPE_CHECKING:
    from sprint_export.executor import Values

FITTED_BITS = 4  # at 8 bits plain rounding is a tenth of the error (docs/decisions/0013-algorithms.md)
CACHE_FORMAT = 2


def fit_component(
    student: Student, role: str, prompts: Sequence[str], seed: int, progress: Progress = quiet, compute: Compute = CPU
) -> dict[str, torch.Tensor]:
    """Edits that put fitted weights in place of the 4-bit layers' own; none where a network has no such layer.

    Args:
        student: specialized; the role's component has its layers, and is smoothed where it will be.
        role: of the network.
        prompts: texts typical for the student.
        seed: of the noise.
        progress: is told (step, done, total); what it raises ends the run, and the next call goes on from there.
        compute: where networks run and weights are fitted. Codes depend on the last digits of X^T X, and so on the device.

    Raises:
        InputError: no prompts, or a layer reads NaN or infinity.
    """
    component = student.components[role]
    layers = {name: layer for name, layer in component.layers.items() if is_fitted(component, name, layer)}
    if not layers:
        return {}
    if not prompts:
        raise InputError("gptq needs calibration prompts and got none; give --prompts FILE with one prompt a line")
    prompts = prompts[: count_rows_at_once(component)]
    folder = open_cache("gptq") / _hash_question(student, prompts, seed)
    fitter = _Fitter(role, layers, folder, progress, count_runs(student, role))
    if any(fitter.load(name) is None for name in layers):
        walk_networks(student, prompts, seed, fitter, role, compute)
    fitter.tell(len(layers))
    return {f"{name}.weight/{kind}": value for name in layers for kind, value in (fitter.load(name) or {}).items()}


def is_fitted(component: Component, name: str, layer: QuantizedLayer) -> bool:
    """A matrix in few bits beside floats."""
    scheme, module = load_scheme(layer.scheme), component.module.get_submodule(name)
    stores_few = scheme.weights.bits <= FITTED_BITS and scheme.weights.qmin < 0 and not scheme.weights.is_float  # integers
    is_alone = scheme.inputs is None and not scheme.rank
    return isinstance(module, Layer) and is_pointwise(module) and stores_few and is_alone


def count_runs(student: Student, role: str) -> int:
    """How often a network runs for a picture, over all schedules."""
    assert student.plan is not None
    counts = student.plan.counts or (student.plan.steps,)
    stages = student.chain.stages
    place = student.chain.roles.index(role)
    if stages[place].when == EACH_STEP:
        return sum(counts)
    return len(counts) if any(stage.when == EACH_STEP for stage in stages[:place]) else 1


def _hash_question(student: Student, prompts: Sequence[str], seed: int) -> str:
    """All that decides what the layers of a network read."""
    edits = {role: hash_tensors(component.edits) for role, component in student.components.items()}
    parts = [CACHE_FORMAT, student.fingerprint, to_json(student.plan), to_json(student.prompt), list(prompts), seed, edits]
    return hash_question(parts)


class _Fitter:
    """The visitor that fits the layers of one network as the prompts pass them."""

    is_divisible = False  # each layer is fitted when it is heard, to all prompts

    def __init__(self, role: str, layers: Mapping[str, QuantizedLayer], folder: Path, progress: Progress, runs: int) -> None:
        self.role, self.layers, self.folder, self.progress, self.runs = role, layers, folder, progress, runs
        self.done = 0
        self._sums: dict[str, tuple[int, torch.Tensor]] = {}  # runs heard, and X^T X over them
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None  # Q, K and V read one tensor

    def visit(self, chunk: Chunk, run: Callable[[Listener], Values]) -> Values:
        """Networks before it only run. Where one ends for want of memory, sums are as they were before it."""
        before = dict(self._sums), self.done
        try:
            return run(lambda *heard: self._listen(chunk, *heard))
        except RuntimeError:
            (self._sums, self.done), self._last = before, None
            raise

    def load(self, name: str) -> dict[str, torch.Tensor] | None:
        """What an earlier run wrote of a layer; a damaged file counts as none."""
        return load_tensors(self._path(name))

    def tell(self, done: int) -> None:
        """Progress in layers."""
        self.progress(Step("fitting weights", self.role), done, len(self.layers))

    def _listen(self, chunk: Chunk, full_name: str, layer: torch.nn.Module, x: torch.Tensor) -> None:
        role, _, name = full_name.partition(".")
        if role != self.role or name not in self.layers:
            return
        heard, total = self._sums.pop(name, (0, torch.zeros(())))
        if heard + 1 < self.runs:
            self._sums[name] = heard + 1, (total.to(x.device) + self._square(chunk, name, layer, x)).cpu()
            return
        self.tell(self.done)
        if self.load(name) is None:
            weight: torch.Tensor = layer.weight  # type: ignore[assignment]  # a Linear's or Conv2d's
            square = total.to(x.device) + self._square(chunk, name, layer, x)
            codes, scales = fit_weight(weight.flatten(1), square, self.layers[name])
            save_tensors(self._path(name), {"codes": pack_codes(codes), "scales": scales.reshape(len(codes), -1)})
        self.done += 1

    def _square(self, chunk: Chunk, name: str, layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """X^T X of the rows that count, float32 [in, in]."""
        if self._last is None or self._last[0] is not x:
            rows = chunk.select_rows(f"{self.role}.{name}", layer, x).flatten(0, -2).float()
            self._last = x, rows.t() @ rows
        square = self._last[1]
        if not torch.isfinite(square.diagonal()).all():
            raise InputError(
                f"{self.role}.{name}: its input is NaN or beyond 1e19 on the calibration prompts; the weights are damaged or "
                "overflow float32, so they cannot be fitted; leave gptq out of the recipe to see where"
            )
        return square

    def _path(self, name: str) -> Path:
        layer = self.layers[name]
        return self.folder / f"{self.role}.{name}.{layer.scheme}.{layer.group}.{layer.scale_dtype}.safetensors"
