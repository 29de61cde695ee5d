"""How far a student's pictures move when layers are rounded: the error that counts, and the only one a search goes by.

    error(layers) = mean over prompts, pixels and colours of (picture with these layers rounded - picture)^2,  pictures in [-1, 1]
    psnr(student) = mean over prompts of the PSNR of the uint8 picture, as the report's psnr_db
Pictures are drawn in torch, float32, with fixed noise; a layer's input is rounded too where its precision says so. Of several
step counts the default is drawn. For errors, what a layer cannot change is kept and not drawn again: its network runs, and those
behind it; all networks stay in memory, in float32, and rounding takes no second copy, the weights come back from their handles.
A whole student is drawn as validation draws it, with one network in memory at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sprint_export.cache import hash_question, open_cache, write_cached
from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError
from sprint_export.executor import Values, make_executor
from sprint_export.files import read_signed, sign_text
from sprint_export.json_forms import to_json
from sprint_export.noise import make_calibration_noise
from sprint_export.nouns.chain import Group
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.psnr import psnr_images
from sprint_export.quantize.torch_session import TorchSession, open_torch, round_layer
from sprint_export.students.family import load_family

if TYPE_CHECKING:
    from sprint_export.executor import Array

CACHE_FORMAT = 2


class Kept:
    """Numbers measured once and written to the cache before the next: a killed search goes on where it stopped.

    One file a (kind of figure, weights, plan, layout, prompts, seed); an entry a question, so that a search with other choices,
    another gate or budget takes what it shares with an earlier one.
    """

    kind = ""

    def __init__(self, student: Student, prompts: Sequence[str], seed: int, compute: Compute = CPU) -> None:
        self._student, self._prompts, self._seed, self._compute = student, prompts, seed, compute
        asked = [CACHE_FORMAT, student.fingerprint, to_json(student.plan), student.layout, list(prompts), seed]
        self.path = open_cache("search") / f"{self.kind}-{hash_question(asked)}.json"
        self._found: dict[str, Any] = {}
        if self.path.is_file():
            with contextlib.suppress(ValueError):  # a damaged cache is measured anew, and replaced
                self._found = json.loads(read_signed(self.path.read_bytes()))

    def recall(self, question: Any, measure: Callable[[], Any]) -> Any:
        """What was measured for a question (JSON values); measured now where it was not."""
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        if key not in self._found:
            self._found[key] = measure()
            text = sign_text(json.dumps(self._found, indent=1))
            write_cached(self.path, lambda part: part.write_text(text, "utf-8"))
        return self._found[key]


class KeptErrors(Kept):
    """Picture errors of layers rounded alone. Nothing is drawn before something is missing."""

    kind = "errors"

    @functools.cached_property
    def _pictures(self) -> Pictures:
        return Pictures(self._student, self._prompts, self._seed, self._compute)

    def measure(self, layers: Mapping[str, QuantizedLayer]) -> float:
        """The error with these layers, by `role.module`, rounded and all others float32."""
        return float(self.recall(to_json(layers), lambda: self._pictures.measure_error(layers)))


class KeptPsnr(Kept):
    """PSNR in dB of what a whole quantized student draws, against float32. Nothing is drawn before something is missing."""

    kind = "psnr"

    @functools.cached_property
    def _reference(self) -> Array:
        return self._draw(self._student, fake=False, dtype="fp32")

    def measure(self, quantized: Student, dtype: str) -> list[float]:
        """One figure a prompt; weights that are not quantized are rounded to `dtype`, the graph's type."""
        recipe = None if quantized.recipe is None else dataclasses.replace(quantized.recipe, name="", meaning="", rules=())
        layers = {role: to_json(component.layers) for role, component in quantized.components.items()}

        def draw() -> list[float]:
            return [float(db) for db in psnr_images(self._draw(quantized, fake=True, dtype=dtype), self._reference)]

        psnr: list[float] = self.recall({"whole": layers, "dtype": dtype, "recipe": to_json(recipe)}, draw)
        return psnr

    def _draw(self, student: Student, fake: bool, dtype: str) -> Array:
        inputs = load_family(student.family).make_inputs(student, self._prompts)
        return open_torch(student, fake, dtype, self._compute)(self._prompts, seed=self._seed, inputs=inputs)


class Pictures:
    """The pictures of a specialized student, drawn once, to compare those of the same student with rounded weights with.

    Args:
        student: specialized, with all its networks.
        prompts: one picture each.
        seed: picture i's noise is made from `seed + i`.
        compute: where they are drawn.

    Raises:
        InputError: a picture holds NaN or infinite values.
    """

    def __init__(self, student: Student, prompts: Sequence[str], seed: int, compute: Compute = CPU) -> None:
        assert student.plan is not None
        self._components, self._picture = student.components, student.chain.names.picture
        self._sessions = {role: TorchSession(component, compute=compute) for role, component in student.components.items()}
        self._executor = make_executor(student, self._sessions)
        ids, mask = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(prompts)
        self._weights = student.plan.list_weights(student.plan.rows())  # as a pipeline's: s = 1 is noise alone
        self._noise = make_calibration_noise(seed, student.plan.steps, len(prompts), student.latent_shape)
        whole = self._executor.start(ids, mask, load_family(student.family).make_inputs(student, prompts))
        self._tables = [[{name: value[i : i + 1] for name, value in whole.items()} for i in range(len(prompts))]]
        for group in self._executor.groups:  # the tables before each group, and behind the last
            self._tables.append(self._run(group, self._tables[-1]))
        if not all(np.isfinite(table[self._picture]).all() for table in self._tables[-1]):
            raise InputError(
                f"student {student.source!r} draws NaN or infinite values in float32; its weights are damaged, "
                "so no picture error can be measured"
            )

    def measure_error(self, layers: Mapping[str, QuantizedLayer]) -> float:
        """The error with these layers, by `role.module`, rounded and all others float32."""
        roles = {layer.partition(".")[0] for layer in layers}
        tables: list[Values] | None = None
        for i, group in enumerate(self._executor.groups):
            mine = roles & {stage.role for stage in group}
            if mine or tables is not None:  # before the first layer that is rounded, nothing changes
                with contextlib.ExitStack() as stack:
                    for role in mine:
                        stack.enter_context(self._rounded(role, layers))
                    tables = self._run(group, self._tables[i] if tables is None else tables)
        pairs = zip(self._tables[-1] if tables is None else tables, self._tables[-1], strict=True)
        pictures = ((a[self._picture].clip(-1, 1), b[self._picture].clip(-1, 1)) for a, b in pairs)
        return float(np.mean([np.square(a - b).mean() for a, b in pictures]))

    def _run(self, group: Group, tables: Sequence[Values]) -> list[Values]:
        return [
            self._executor.run(group, table, self._noise[:, i : i + 1], weights=self._weights) for i, table in enumerate(tables)
        ]

    @contextlib.contextmanager
    def _rounded(self, role: str, layers: Mapping[str, QuantizedLayer]) -> Iterator[None]:
        """The role's session with its share of the layers rounded, for the time of the block."""
        mine = {layer.partition(".")[2]: how for layer, how in layers.items() if layer.startswith(f"{role}.")}
        network, handles = self._sessions[role].module, self._components[role].weights
        hooks = []
        try:
            hooks = [hook for name, how in mine.items() for hook in round_layer(network.get_submodule(name), how)]
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for name in mine:
                network.get_parameter(f"{name}.weight").data.copy_(handles[f"{name}.weight"].load())
