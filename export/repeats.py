"""Equal blocks of a network are captured a few times, and what one of them adds is repeated as often as it was left out.

    forward with all N blocks on `meta`, each operator recorded     =     the same with 4 blocks, its last stretch repeated
A list of blocks is shortened only where that equation holds, operator for operator, and so whatever the forward does between
them is right too. Blocks may be equal in groups (layers that alternate). Then the network with 4 groups is captured, and
`extend` gives the graph of all: names and numbers in it go on as they do from the second group to the third (`linear_9`,
`linear_17`; `blocks.1.to_q.weight`, `blocks.2.to_q.weight`), so that it is the graph that capture gives, to its names. A graph
that does not go on so is an `IrregularError`, and the network is captured whole.

A record is what a graph's node is made of, as tuples: first the names of what it makes, then all that decides it.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Record: TypeAlias = tuple[Any, ...]  # (names of what a node makes, what else it is made of)
Node = TypeVar("Node")
GROUPS = 4  # captured: the first and the last lie beside something else, the two between tell how names go on
SIZES = (1, 2)  # blocks of a group
MOST_VALUES = 64  # of a constant that a forward makes, to be compared


class Ref(str):
    """A name of a value or a weight; the numbers in it count."""


class IrregularError(Exception):
    """Blocks are not a repetition; why."""


@dataclass(frozen=True)
class Repeat:
    """A list of blocks that is shortened to `GROUPS` groups of `size`, and how many groups are left out."""

    path: str
    size: int
    left_out: int

    def find_starts(self, blocks: Iterable[int | None]) -> list[int]:
        """Where the second group and those after it begin, given the block that each node belongs to."""
        firsts: dict[int, int] = {}
        for place, block in enumerate(blocks):
            if block is not None and block % self.size == 0:
                firsts.setdefault(block // self.size, place)
        if sorted(firsts) != list(range(GROUPS)):
            raise IrregularError(f"{self.path}: nodes of groups {sorted(firsts)}, expected {GROUPS}")
        return [firsts[group] for group in range(1, GROUPS)]

    def find_like(self, name: str) -> str:
        """A weight of a block that is left out -> the one of the first group that is like it."""
        inside = re.compile("(" + re.escape(self.path) + r"\.)(\d+)(?=\.)")
        return inside.sub(lambda found: f"{found[1]}{int(found[2]) % self.size}", name, count=1)

    def block_of(self, scopes: Iterable[str]) -> int | None:
        """The block of the list that a node of these module paths belongs to."""
        inside = re.compile(re.escape(self.path) + r"\.(\d+)(\.|$)")
        found = [match[1] for scope in scopes if (match := inside.match(scope))]
        return int(found[0]) if found else None


def shorten(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[torch.nn.Module, list[Repeat]]:
    """The module with equal blocks left out, and what was; the module itself where none are.

    Args:
        module: on `meta`; it is not changed.
        inputs: on `meta`.
    """
    repeats: list[Repeat] = []
    recorded = None
    for path in _list_blocks(module):
        recorded = recorded or record_forward(module, inputs, path)
        blocks: Any = module.get_submodule(path)
        for size in SIZES:
            repeat = Repeat(path, size, len(blocks) // size - GROUPS)
            short = _leave_out(module, path, GROUPS * size)
            try:
                few, places = record_forward(short, inputs, path)
            except Exception:  # a family's forward may fail in any way on fewer blocks than it counts on; then they stay
                continue
            try:
                found = [record for _, record in extend(few, repeat.find_starts(places), repeat.left_out)]
            except IrregularError:
                continue
            if len(blocks) % size == 0 and found == recorded[0]:
                module, recorded = short, None
                repeats.append(repeat)
                break
    return module, repeats


def share_repeated(module: torch.nn.Module) -> float:
    """The share of a module's innermost modules that lie in blocks which are left out, if all lists of them are equal blocks."""

    def count(each: torch.nn.Module) -> int:
        return sum(not list(inner.children()) for inner in each.modules())

    lists: list[Any] = [module.get_submodule(path) for path in _list_blocks(module)]
    return sum(count(blocks) * (1 - GROUPS / len(blocks)) for blocks in lists) / count(module)


def _list_blocks(module: torch.nn.Module) -> list[str]:
    """Paths of lists that are worth it, outermost only."""
    paths: list[str] = []
    for path, child in module.named_modules():
        if isinstance(child, torch.nn.ModuleList) and not path.startswith(tuple(f"{outer}." for outer in paths)):
            paths.append(path)
    return [path for path in paths if len(module.get_submodule(path)) > GROUPS + 1]  # type: ignore[arg-type]  # lists


def _leave_out(module: torch.nn.Module, path: str, keep: int) -> torch.nn.Module:
    """The module with the first `keep` of a list alone; all else is shared."""
    short = copy.copy(module)
    name, _, rest = path.partition(".")
    child: Any = module.get_submodule(name)
    short._modules = dict(module._modules)
    short._modules[name] = _leave_out(child, rest, keep) if rest else torch.nn.ModuleList(list(child)[:keep])
    return short


def record_forward(module: torch.nn.Module, inputs: Sequence[torch.Tensor], path: str) -> tuple[list[Record], list[int | None]]:
    """Every operator of a forward pass that computes nothing, and the block of a list that it belongs to."""
    recorder, inside = _Recorder(module, inputs), re.compile(re.escape(path) + r"\.(\d+)(\.|$)")
    hooks = []
    for name, child in module.named_modules():
        if match := inside.match(name):
            hooks.append(child.register_forward_pre_hook(lambda *_, block=int(match[1]): recorder.enter(block)))
    try:
        is_empty = all(value.is_meta for value in (*inputs, *list_weights(module).values()))
        fake = contextlib.nullcontext() if is_empty else FakeTensorMode(allow_non_fake_inputs=True)
        with torch.no_grad(), fake, recorder:
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return recorder.records, recorder.blocks


class _Recorder(TorchDispatchMode):
    """Operators as they run, with weights under their names and all else numbered."""

    def __init__(self, module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.records: list[Record] = []
        self.blocks: list[int | None] = []
        self._block: int | None = None
        known = {**list_weights(module), **{f"input {i}": value for i, value in enumerate(inputs)}}
        self._names = {id(value): name for name, value in known.items()}
        self._kept = list(known.values())  # else an id would be given away again
        self._count = 0

    def enter(self, block: int) -> None:
        """What runs from now on is this block's."""
        self._block = block

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = self._describe((args, kwargs or {}))
        made = function(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves(made) if isinstance(value, torch.Tensor)]
        for value in tensors:
            if id(value) not in self._names:
                self._names[id(value)] = f"value {self._count}"
                self._kept.append(value)
                self._count += 1
        names = tuple(Ref(self._names[id(value)]) for value in tensors)
        self.records.append((names, str(function), given, str([(value.shape, value.dtype) for value in tensors])))
        self.blocks.append(self._block)
        return made

    def _describe(self, given: Any) -> Any:
        if isinstance(given, torch.Tensor):
            return Ref(self._names[id(given)]) if id(given) in self._names else describe_constant(given)
        if isinstance(given, dict):
            return tuple((key, self._describe(value)) for key, value in given.items())
        return tuple(map(self._describe, given)) if isinstance(given, list | tuple) else given


def list_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and then buffers, as torch.export lists them."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def describe_constant(value: torch.Tensor) -> Hashable:
    """A small tensor that is no weight, by its values."""
    if value.is_meta or value.numel() > MOST_VALUES:
        raise IrregularError(f"a constant of {list(value.shape)} values")
    return str(value.dtype), str(value.shape), tuple(value.flatten().tolist())


def put_back(
    nodes: Sequence[Node], records: Sequence[Record], scopes: Callable[[Node], Iterable[str]], repeats: Sequence[Repeat]
) -> list[tuple[Node, Record]]:
    """The nodes of a captured graph with what was left out, each beside a record of what it shall be.

    Args:
        nodes: in the order of the graph of the shortened module.
        records: what each is made of.
        scopes: paths of the modules that a node belongs to.
        repeats: what was left out.

    Raises:
        IrregularError: the graph does not repeat its blocks.
    """
    found = list(zip(nodes, records, strict=True))
    for repeat in reversed(repeats):
        starts = repeat.find_starts(repeat.block_of(scopes(node)) for node, _ in found)
        found = [(found[i][0], record) for i, record in extend([record for _, record in found], starts, repeat.left_out)]
    return found


def extend(records: Sequence[Record], starts: Sequence[int], left_out: int) -> list[tuple[int, Record]]:
    """Records with what was left out, each with the place of the one it is like.

    Args:
        records: of GROUPS groups.
        starts: where the second, third and fourth group begin; what follows the fourth is not a group's.
        left_out: how many more groups there are, between the third and the fourth.

    Raises:
        IrregularError: the third group is not to the second what names and numbers that go on by equal steps make it.
    """
    second, third, fourth = starts
    length = third - second
    if fourth - third != length:
        raise IrregularError(f"groups of {length} and {fourth - third} nodes")
    pairs = [(records[second + i], records[third + i]) for i in range(length)]
    found = [*enumerate(records[:fourth])]
    for step in range(2, left_out + 2):
        found += [(third + i, _continue(*pair, step)) for i, pair in enumerate(pairs)]
    shift = _Shift(pairs, records[third:], left_out)
    in_group = True
    for i, record in enumerate(records[fourth:]):
        in_group = in_group and i < length and _is_next(pairs[i], record)
        found.append((fourth + i, _continue(*pairs[i], left_out + 2) if in_group else shift.apply(record)))
    return found


def _is_next(pair: tuple[Record, Record], record: Record) -> bool:
    try:
        return bool(_continue(*pair, 2) == record)
    except IrregularError:
        return False


def _continue(first: Any, second: Any, step: int) -> Any:
    """What stands at `step` where `first` is at 0 and `second` at 1."""
    if type(first) is not type(second):
        raise IrregularError(f"{first!r}, then {second!r}")
    if isinstance(first, tuple):
        if len(first) != len(second):
            raise IrregularError(f"{first!r}, then {second!r}")
        return tuple(_continue(a, b, step) for a, b in zip(first, second, strict=True))
    if isinstance(first, Ref):
        (words, old), (others, new) = split_name(first), split_name(second)
        if words != others:
            raise IrregularError(f"{first!r}, then {second!r}")
        return _join_name(words, _continue(old, new, step))
    if type(first) is int:
        return first + step * (second - first)
    if first != second:
        raise IrregularError(f"{first!r}, then {second!r}")
    return first


class _Shift:
    """How names behind the last group move: those made there or in the group before it, by the steps of their kind."""

    def __init__(self, pairs: Sequence[tuple[Record, Record]], made: Sequence[Record], times: int) -> None:
        self._times, self._made = times, {name for record in made for name in record[0]}
        self._steps: dict[tuple[str, ...], tuple[int, ...]] = {}
        for first, second in pairs:
            for a, b in zip(first[0], second[0], strict=True):
                (words, old), (_, new) = split_name(a), split_name(b)
                step = tuple(y - x for x, y in zip(old, new, strict=True))
                if self._steps.setdefault(words, step) != step:
                    raise IrregularError(f"{a!r}, then {b!r}: steps of {step} and {self._steps[words]}")

    def apply(self, record: Any) -> Any:
        if isinstance(record, tuple):
            return tuple(map(self.apply, record))
        if not isinstance(record, Ref) or record not in self._made:
            return record
        words, numbers = split_name(record)
        steps = self._steps.get(words, (0,) * len(numbers))
        return _join_name(words, tuple(n + self._times * step for n, step in zip(numbers, steps, strict=True)))


@cache
def split_name(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The words of a name and the numbers between them."""
    parts = re.split(r"(\d+)", name)
    return tuple(parts[::2]), tuple(map(int, parts[1::2]))


def _join_name(words: Sequence[str], numbers: Sequence[int]) -> Ref:
    return Ref("".join(f"{word}{number}" for word, number in zip(words, numbers, strict=False)) + words[-1])
