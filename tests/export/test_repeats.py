"""A graph with blocks put back is the one that a whole capture gives, to its names."""

from __future__ import annotations

import re
from collections.abc import Callable

import onnx_ir as ir
import pytest
import torch
from torch import nn

from sprint_export.export import repeated_program
from sprint_export.export.repeated_program import export_program
from sprint_export.export.repeats import IrregularError, Ref, Repeat, extend, shorten
from sprint_export.export.to_onnx import writer
from sprint_export.export.to_onnx.free_axes import make_example
from sprint_export.export.to_onnx.passes import strip_metadata
from sprint_export.export.to_onnx.repeated_graph import repeat_graph
from sprint_export.nouns.student import TensorSpec
from sprint_export.specialize import specialize_student
from sprint_export.students.family import load_family
from sprint_export.students.networks.gemma2 import PromptEncoder, make_gemma2
from sprint_export.students.sana_sprint.presets import tiny

Network = tuple[nn.Module, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
Run = Callable[["Chain", int, torch.Tensor], torch.Tensor]
BLOCKS = 6


def transformer(steps: int = 1, is_free: bool = False) -> Network:
    student = specialize_student(tiny(num_layers=BLOCKS), steps=steps)
    component = (load_family(student.family).free_sizes(student) if is_free else student).components["transformer"]
    return component.module, component.inputs, component.outputs


def text_encoder(window: int, layers: int = BLOCKS) -> Network:
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    config = {"vocab_size": 64, "num_hidden_layers": layers, "query_pre_attn_scalar": 16, "sliding_window": window, **sizes}
    module = PromptEncoder(make_gemma2(config), tokens=12, keep=9, is_cached=True).eval()
    return module, (TensorSpec("ids", "int64", (1, 8), ""),), (TensorSpec("embeds", "float32", (1, 9, 48), ""),)


NETWORKS: dict[str, Callable[[], Network]] = {
    "one step": transformer,
    "a table for each step": lambda: transformer(steps=2),
    "layers that are all alike": lambda: text_encoder(window=4096),
    "layers that alternate": lambda: text_encoder(window=4, layers=10),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_is_that_of_a_whole_capture(name: str) -> None:
    module, inputs, outputs = NETWORKS[name]()
    size = 2 if name == "layers that alternate" else 1
    short, found = shorten(module, make_example(inputs)[0])
    assert [(each.size, each.left_out) for each in found] == [(size, 1 if size == 2 else 2)]
    graph = repeat_graph(writer._translate_whole(short, inputs, outputs), module, found)
    assert show(graph) == show(writer._translate_whole(module, inputs, outputs))


@pytest.mark.parametrize("name", ["one step", "layers that are all alike"])
def test_a_program_is_that_of_a_whole_capture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs, _ = NETWORKS[name]()
    program = export_program(module, make_example(inputs)[0])
    monkeypatch.setattr(repeated_program, "shorten", lambda module, _: (module, []))
    whole = export_program(module, make_example(inputs)[0])
    assert str(program) == str(whole)
    assert program.graph_signature == whole.graph_signature
    assert list(program.state_dict) == list(whole.state_dict)


def test_free_axes_but_for_a_number_in_two_names() -> None:
    module, inputs, outputs = transformer(is_free=True)
    graphs = show(writer._translate(module, inputs, outputs)), show(writer._translate_whole(module, inputs, outputs))
    mine, whole = (re.sub(r"sym_size_int_\d+", "sym_size_int", graph) for graph in graphs)
    assert mine == whole
    assert graphs[0] != graphs[1], "then docs/decisions/0032-export.md says too much"


def show(model: ir.Model) -> str:
    """All of a graph, how often values are read, and the numbers that later nodes get."""
    strip_metadata(model)
    graph = model.graph
    listed = (*graph.inputs, *graph.outputs, *graph.initializers.values())
    values = [(value.name, value.dtype, value.shape, len(value.uses())) for value in listed]
    names = graph._name_authority
    return "\n".join(map(str, [*values, *graph, names._node_counter, names._value_counter]))


class Chain(nn.Module):
    """Linears in a row; `run` says how each is used."""

    def __init__(self, run: Run, count: int = BLOCKS) -> None:
        super().__init__()
        self.blocks, self.run = nn.ModuleList(nn.Linear(3, 3, device="meta") for _ in range(count)), run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(len(self.blocks)):
            x = self.run(self, i, x)
        return x.exp()


def test_blocks_that_a_forward_does_not_treat_alike_are_all_captured() -> None:
    x = torch.empty(1, 3, device="meta")
    skip = Chain(lambda chain, i, x: chain.blocks[i](x) + (x if i == 5 else 0))
    wider = Chain(lambda chain, i, x: chain.blocks[i](x))
    wider.blocks[5] = nn.Linear(3, 3, bias=False, device="meta")
    fixed = Chain(lambda chain, i, x: chain.blocks[i](x) if len(chain.blocks) == BLOCKS else x[0, 0, 0])
    for chain in (skip, wider, fixed, Chain(lambda chain, i, x: chain.blocks[i](x), count=5)):
        assert shorten(chain, [x]) == (chain, [])
    plain = Chain(lambda chain, i, x: chain.blocks[i](x).relu())
    short, found = shorten(plain, [x])
    assert found == [Repeat("blocks", 1, 2)]
    assert (len(short.get_submodule("blocks")), len(plain.blocks)) == (4, BLOCKS)  # type: ignore[arg-type]  # a list
    scaled = Chain(lambda chain, i, x: chain.blocks[i](x) * i)
    assert shorten(scaled, [x])[1] == found, "numbers that go on by equal steps are"


def test_names_and_numbers_go_on() -> None:
    def record(name: str, *rest: object) -> tuple[object, ...]:
        return (Ref(name),), *rest

    few = [record("x"), *(record(f"add_{2 * i}", Ref(f"add_{2 * i - 2}"), 6 * i) for i in range(1, 5)), record("add_9", Ref("x"))]
    assert [record for _, record in extend(few, [2, 3, 4], 2)] == [
        record("x"),
        *(record(f"add_{2 * i}", Ref(f"add_{2 * i - 2}"), 6 * i) for i in range(1, 7)),
        record("add_13", Ref("x")),
    ]
    with pytest.raises(IrregularError, match="'other', then 'others'"):
        extend([record("x", 1), record("y_1", "other"), record("y_2", "others"), record("y_3", "other")], [1, 2, 3], 1)


def test_a_graph_that_does_not_repeat_is_captured_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs, outputs = text_encoder(window=4096)

    def refuse(*_: object) -> None:
        raise IrregularError("as a torch of another version may write it")

    whole = show(writer._translate_whole(module, inputs, outputs))
    monkeypatch.setattr(writer, "repeat_graph", refuse)
    assert show(writer._translate(module, inputs, outputs)) == whole
