"""A scheme in one file: block scales with dynamic inputs, scales a token, a low-rank branch; quantized, exported, validated.

Beside each file there is the one line in a target that offers it; here the target is a copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import sprint_export.quantize.schemes
from sprint_export.conversion import convert
from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import QuantizedLayer, Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Offer, Target
from sprint_export.quantize import quantize_student
from sprint_export.quantize.scales import find_error, round_dynamically
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.search.pictures import Pictures
from sprint_export.quantize.search.units import gather_layers
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import list_members, load_target
from sprint_export.runtimes.onnx_cpu import target as onnx_cpu
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from tests.bundles import read_rows
from tests.export.to_onnx.graphs import export_component, run_onnx, small_component, small_feeds
from tests.made_student import relative_error

ROOM = Path(__file__).parent / "schemes"
NAMES = ("lowrank4", "mx8", "tokenfp8")
PLAIN = {"lowrank4": "w4a16", "mx8": "w8a8"}  # the same bits, without what the scheme adds
MIN_CONVERTER_DB = 45.0  # of networks: sums in another order, and what lies near a tie of a rounding falls the other way
MAX_ERROR = 1e-5  # of one layer, where nothing before it differs
COUNT = 2


@pytest.fixture(scope="module", autouse=True)
def _room() -> Iterator[None]:
    """As if the files lay in quantize/schemes/, and the onnx target had a line for each."""
    places = sprint_export.quantize.schemes.__path__
    places.append(str(ROOM))
    list_members.cache_clear()
    offers = {**load_target("onnx").offers, **{name: Offer(name, "fp32") for name in NAMES}}
    offers["int4"] = dataclasses.replace(offers["int4"], graph="fp32")  # to be asked for by itself, as what it is compared with
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_cpu, "TARGET", dataclasses.replace(onnx_cpu.TARGET, offers=offers))
        yield
    places.remove(str(ROOM))
    list_members.cache_clear()


@pytest.fixture(scope="module")
def special() -> Student:
    return specialize_student(load_student("sprint-tiny"))


def target() -> Target:
    return load_target("onnx")


@pytest.fixture(scope="module", params=NAMES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("scheme") / "bundle"
    return convert("sprint-tiny", f"onnx-{request.param}", folder, count=COUNT)


def test_they_are_found() -> None:
    assert set(NAMES) <= set(list_members("scheme"))
    assert load_scheme("lowrank4").rank == 8


def test_the_graph_computes_what_torch_does_with_the_same_rounding(bundle: Bundle) -> None:
    name = bundle.precision
    rows = read_rows(bundle.folder)
    for record in read_bundle(bundle.folder).components:
        assert {layer.scheme for layer in record.layers.values()} == {name}
        quality = rows[record.role, "converter_psnr_db"]["value"]
        assert quality >= MIN_CONVERTER_DB, f"{name}, {record.role}: {quality:.1f} dB, at least {MIN_CONVERTER_DB}"
    gate = next(gate for gate in load_scheme(name).gates if gate.metric == "psnr_db")
    assert rows["", "psnr_db"]["limit"] == gate.text
    assert rows["", "psnr_db"]["verdict"] == "met"
    assert rows["", "quantized_share"]["value"] > 0.5


@pytest.mark.parametrize("layer", ["conv", "point", "left", "out"])
@pytest.mark.parametrize("name", NAMES)
def test_one_layer_is_exact(name: str, layer: str, tmp_path: Path) -> None:
    """A wide convolution, a 1x1 one, and products; what the scheme refuses is left out."""
    scheme, component = load_scheme(name), small_component()
    module = component.module.get_submodule(layer)
    assert isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    if (reason := scheme.refuse(module)) is not None:
        assert layer == "conv" or "whole blocks" in reason
        return
    how = QuantizedLayer(name, None, 0, "fp32", scheme.fit_group(module.weight.shape, 0))
    component = dataclasses.replace(component, layers={layer: how})
    graph = export_component(component, "fp32", tmp_path, target().rewrites)
    found = run_onnx(graph.path, small_feeds(), fuse=False)
    error = relative_error(found, TorchSession(component, fake=True).run(small_feeds())["image"])
    plain = relative_error(found, TorchSession(component).run(small_feeds())["image"])
    assert error <= MAX_ERROR < plain / 10, f"deviates by {error:.1e}, tolerance {MAX_ERROR}; the rounding itself by {plain:.1e}"


def test_the_graph_has_the_schemes_parts(bundle: Bundle) -> None:
    graph = onnx.load(bundle.folder / "transformer" / "model.onnx", load_external_data=False).graph
    layers = read_bundle(bundle.folder).components[1].layers
    scaled = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    blocks = {node.input[0].partition(".weight")[0]: a.i for node in scaled for a in node.attribute if a.name == "block_size"}
    scheme = load_scheme(bundle.precision)
    assert set(blocks) == {name for name, layer in layers.items() if layer.group}, "a weight may be stored in parts"
    assert set(blocks.values()) <= {scheme.group}
    assert any("ReduceMax" in node.op_type for node in graph.node) == (scheme.inputs is not None)
    factors = [value for value in graph.initializer if ".branch." in value.name]
    assert len(factors) == (2 * len(layers) if scheme.rank else 0)
    assert not [node for node in graph.node if node.op_type == "QuantizeLinear"], "nothing was measured beforehand"


@pytest.mark.parametrize("name", PLAIN)
def test_the_error_is_what_the_scheme_promises(name: str, special: Student) -> None:
    """Less than plain rounding in the same bits leaves, on weights and in pictures."""
    others_float = (Rule("vae_decoder.*", "float"), Rule("text_encoder.*", "float"))
    recipe = Recipe("all", (*others_float, Rule("*", name)), ("a red circle",), 1)
    plain = dataclasses.replace(recipe, rules=(*others_float, Rule("*", PLAIN[name])))
    layers = gather_layers(quantize_student(special, name, target(), recipe))
    others = {key: how for key, how in gather_layers(quantize_student(special, "int8", target(), plain)).items() if key in layers}
    assert len(others) == len(layers) > 10
    weights = special.components["transformer"].weights

    def measure(every: dict[str, QuantizedLayer]) -> float:
        named = ((weights[f"{key.partition('.')[2]}.weight"].load(), how) for key, how in every.items())
        return sum(float(find_error(weight, how).square().sum()) for weight, how in named)

    assert measure(layers) < 0.9 * measure(others)
    pictures = Pictures(special, ["a small red circle above a large blue square on a white background"], 7)
    assert 0 < pictures.measure_error(layers) < pictures.measure_error(others)


@pytest.mark.parametrize("axis", [1, -1])
def test_a_dynamic_scale_is_that_of_its_block(axis: int) -> None:
    layer = QuantizedLayer("mx8", None, 0, "fp32", 32)
    value = torch.randn(2, 64, 3, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 64)
    value[0, :, 0] = 0.0
    found = round_dynamically(value, layer, axis)
    blocks = value.movedim(axis, -1).unflatten(-1, (-1, 32))
    scale = np.maximum(blocks.abs().amax(-1, keepdim=True).numpy() / np.float32(127), 1e-30)
    wanted = torch.from_numpy(np.rint(blocks.numpy() / scale) * scale).flatten(-2).movedim(-1, axis)
    torch.testing.assert_close(found, wanted)


def test_another_format_refuses_what_it_has_not(special: Student) -> None:
    coreml = load_target("coreml")
    for name in NAMES:
        with pytest.raises(InputError, match=rf"for coreml targets: '{name}'; choose from: "):
            quantize_student(special, "int8", coreml, Recipe("odd", (Rule("*", name),), ("a red circle",)))
