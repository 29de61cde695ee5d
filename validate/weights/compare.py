"""compare_weights: every weight in a bundle's files against what quantization meant, without drawing anything.

    missing     no tensor of the file holds what is meant of a piece
    beside      a tensor with a layer's name holds something that is meant of no piece
Each names its layer, and in words what is found instead. Every graph of a network is read: the one that a device's engine is made
of, and the shadow that is run in its place here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sprint_export.errors import MachineError, RefusedError
from sprint_export.freed_memory import return_freed_memory
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import Component, Student
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.registry import load_target
from sprint_export.runtimes.open import list_stored
from sprint_export.runtimes.stored_tensors import StoredTensor
from sprint_export.validate.graph_names import find_module, spell
from sprint_export.validate.side_by_side import take_component
from sprint_export.validate.weights.activations import compare_ranges
from sprint_export.validate.weights.meant import VALUE, Meant, list_meant
from sprint_export.validate.weights.search import Held, Piece, Search
from sprint_export.validate.weights.telling import tell_beside, tell_missing

COMPARING = Step("comparing weights")


@dataclass(frozen=True)
class Difference:
    """What a file holds of one layer, and quantization did not mean.

    Args:
        network: the component's role.
        module: the layer's path.
        said: in words, what is found.
    """

    network: str
    module: str
    said: str


@dataclass(frozen=True)
class Weights:
    """What was found: of each network that was read how many weights, what differs; and in words what was not read."""

    compared: Mapping[str, int]
    differences: Sequence[Difference]
    unchecked: Sequence[str] = ()


def compare_weights(bundle: Bundle, specialized: Student, progress: Progress = quiet) -> Weights:
    """Every network of a bundle.

    Args:
        bundle: its files.
        specialized: the student, as the bundle is.
        progress: is told (step, done, total).
    """
    compared: dict[str, int] = {}
    differences: list[Difference] = []
    unchecked: list[str] = []
    for record in track(bundle.components, COMPARING, progress):
        try:
            files = list_stored(bundle, record.role)
        except (RefusedError, MachineError) as error:
            unchecked.append(f"weights of {record.role}: {error}")
            continue
        component = take_component(bundle, specialized, record)
        compared[record.role] = len(component.weights)
        found, seen = dict[str, str](), _Seen()
        for tensors in files.values():
            for module, said in _compare_file(bundle, component, tensors, seen):
                found.setdefault(module, said)
        differences += [Difference(record.role, module, said) for module, said in found.items()]
        if seen.unfound:
            names = ", ".join(seen.unfound)
            unchecked.append(f"weights of {record.role}: no tensor of the files is {names}, by name or content")
        return_freed_memory()
    return Weights(compared, differences, unchecked)


@dataclass
class _Seen:
    """What earlier graphs of a network told.

    Args:
        unfound: weights that no tensor is, by name or content, in order.
        right: of each weight that is right the tensors that hold it, where their bytes lie in a file beside the graph.
    """

    unfound: dict[str, None] = field(default_factory=dict)
    right: dict[str, frozenset[Any]] = field(default_factory=dict)

    def is_right(self, meant: Meant, held: Mapping[Any, Held]) -> bool:
        """Whether the same tensors, over the same bytes, hold a weight here, which then are not read again."""
        known = self.right.get(meant.name, frozenset())
        if not known or not known <= held.keys():
            return False
        for each in known:
            held[each].is_meant = True
        return True

    def keep(self, meant: Meant, pieces: Sequence[Piece]) -> None:
        """Note what holds a weight, where all of it is right."""
        holding = [trial.held for piece in pieces for trial in piece.trials if trial.seen and not trial.wrong]
        if all(piece.is_there for piece in pieces) and all(each.tensor.place for each in holding):
            self.right[meant.name] = frozenset(map(_identify, holding))


def _identify(held: Held) -> tuple[Any, ...]:
    tensor = held.tensor
    return tensor.name, tensor.place, tensor.shape, tensor.is_code


def _compare_file(
    bundle: Bundle, component: Component, tensors: Sequence[StoredTensor], seen: _Seen
) -> Iterator[tuple[str, str]]:
    """(module, what is wrong) of one graph."""
    dtype = load_target(bundle.target).graph_dtype[bundle.precision]
    everything = list_meant(component, dtype)
    modules = {spell(each.module): each.module for each in everything}
    held = [Held(tensor) for tensor in tensors]
    own: dict[str, list[Held]] = {}
    for each in held:
        module = find_module(each.tensor.name, modules)
        if module is not None:
            own.setdefault(modules[module], []).append(each)
    search, by_identity = Search(held, dtype), {_identify(each): each for each in held}
    for meant in everything:
        if seen.is_right(meant, by_identity):
            continue
        pieces = search.find(meant, own.get(meant.module, ()))
        seen.keep(meant, pieces)
        for piece in pieces:
            if piece.is_there:
                continue
            if piece.kind == VALUE and not _has_name(own.get(meant.module, ()), meant.name):
                seen.unfound.setdefault(meant.name)  # folded into a constant of another name, as an exporter may
            else:
                yield meant.module, tell_missing(meant, piece)
    for module, mine in own.items():
        for each in mine:
            if not each.is_meant and (said := tell_beside(each)):
                yield module, said
    names = frozenset(each.tensor.name for mine in own.values() for each in mine)
    yield from compare_ranges(component, held, names)


def _has_name(own: Sequence[Held], weight: str) -> bool:
    """Whether one of a module's tensors is called after this weight of it."""
    return any(find_module(each.tensor.name, {spell(weight)}) is not None for each in own)
