"""What a manifest may say, rule by rule: signed again or not, what makes no sense is one line before any file is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_export.errors import BundleError
from sprint_export.export.bundle import read_bundle
from tests.bundles import edit_manifest
from tests.small_bundle import make_small_bundle

Value = dict[str, Any]
NETWORKS = {"transformer": 0, "text_encoder": 1, "vae_decoder": 2}  # where small_bundle puts them


def to(value: Any, *path: Any) -> Callable[[Value], None]:
    """Set one field."""

    def change(whole: Any) -> None:
        for key in path[:-1]:
            whole = whole[key]
        whole[path[-1]] = value

    return change


def network(value: Any, role: str, *path: Any) -> Callable[[Value], None]:
    """Set one field of a network, and of its part where it is of its inputs and outputs."""

    def change(whole: Value) -> None:
        record = whole["components"][NETWORKS[role]]
        to(value, *path)(record)
        if path[0] in ("inputs", "outputs"):
            to(value, *path)(record["parts"][0])

    return change


def layer(value: Any, *path: Any) -> Callable[[Value], None]:
    return network(value, "transformer", "layers", "blocks.0", *path)


def artifact(**values: Any) -> Callable[[Value], None]:
    return lambda whole: whole["artifacts"][1].update(values)


def times(times: list[float], counts: list[int]) -> Callable[[Value], None]:
    return lambda whole: whole["plan"].update(times=times, counts=counts)


def stage(place: int, **values: Any) -> Callable[[Value], None]:
    return lambda whole: whole["chain"]["stages"][place].update(values)


def broken_loop(whole: Value) -> None:
    for place, when in enumerate(("each step", "once", "each step")):
        stage(place, when=when)(whole)


def repeat_parts(whole: Value) -> None:
    for record in whole["components"]:
        record["parts"] *= 300


def repeat_artifacts(whole: Value) -> None:
    whole["artifacts"] *= 1500


def chain_backwards(whole: Value) -> None:
    part = whole["components"][0]["parts"][0]
    part["inputs"] = [*part["inputs"], {"name": "later", "dtype": "float32", "shape": [1], "meaning": ""}]


BAD: dict[str, tuple[Callable[[Value], object], str]] = {
    "no times": (times([], []), "steps: found [0], expected 1 to 4"),
    "a time beyond noise": (times([3.0, 0.5], []), "plan.times: found [3.0, 0.5], expected numbers above 0 up to 1.01"),
    "a time of zero": (times([1.0, 0.0], []), "plan.times: found [1.0, 0.0]"),
    "times that rise": (times([0.5, 1.0], []), "plan.times: found [0.5, 1.0], expected falling times"),
    "times that stand": (times([1.0, 1.0], []), "expected falling times"),
    "many times": (times([1.0] * 100_000, []), "steps: found [100000], expected 1 to 4 of each schedule"),
    "counts of other times": (times([1.0, 0.5], [1, 2]), "plan.counts: found [1, 2], expected a sum of 2"),
    "a count of none": (times([1.0, 0.5], [0, 2]), "steps: found [0, 2]"),
    "a count twice": (times([1.0, 1.0], [1, 1]), "plan.counts: found [1, 1], expected each count once"),
    "counts without end": (times([1.0, 0.5], [2**62, 2]), "steps: found"),
    "guidance without end": (to(1e300, "plan", "guidance"), "plan.guidance: found 1e+300"),
    "constants of no type": (to("float31", "plan", "dtype"), "plan.dtype: found 'float31', expected one of float32, "),
    "one token": (to(1, "prompt", "tokens"), "prompt.tokens: found 1, expected 2 to 65536"),
    "keeps more than there are": (to(300_000, "prompt", "keep"), "prompt.keep: found 300000, expected 2 to 490"),
    "keeps others": (to(299, "prompt", "keep"), "prompt_mask: found int64 [1, 300], expected int32/int64 [1, 299]"),
    "tokens of another graph": (to(491, "prompt", "tokens"), "input_ids: found int64 [1, 490], expected int32/int64 [1, 491]"),
    "pads with no word": (to(64, "prompt", "pad_id"), "prompt.pad_id: found 64, expected 0 to 63"),
    "pads below zero": (to(-1, "prompt", "pad_id"), "prompt.pad_id: found -1"),
    "a prefix of other length": (to([2, 2], "prompt", "prefix_ids"), "found 2 ids, expected none, or the 191 before the last"),
    "a prefix of no word": (to([10**6] * 191, "prompt", "prefix_ids"), "prompt.prefix_ids: found 1000000, expected 0 to 63"),
    "no vocabulary": (to(0, "prompt", "vocabulary"), "prompt.vocabulary: found 0"),
    "a prefix without end": (to("x" * 300_000, "prompt", "prefix"), "prompt.prefix: found 300000 letters"),
    "latents without end": (to([2**40, 16, 16], "latent_shape"), "latent_shape: found 1099511627776"),
    "latents of other size": (to([4, 16, 17], "latent_shape"), "transformer: latents: found float32 [1, 4, 16, 16]"),
    "no latents": (to([4, 0, 16], "latent_shape"), "latent_shape: found 0"),
    "negative latents": (to([4, -16, -16], "latent_shape"), "latent_shape: found -16"),
    "a dynamic target of one size": (to(True, "options", "dynamic"), "options: trt-fp8 --dynamic: an engine's"),
    "options of others": (
        to("iOS18", "options", "deployment_target"),
        "options: deployment_target=iOS18: trt targets have no such option",
    ),
    "another type of ids": (network("float32", "text_encoder", "inputs", 0, "dtype"), "input_ids: found float32 [1, 490]"),
    "an unknown type": (network("float", "text_encoder", "inputs", 0, "dtype"), "found 'float', expected one of float32"),
    "another name": (
        network("ids", "text_encoder", "inputs", 0, "name"),
        "text_encoder: the input ids: found nothing that gives it, expected the output of an earlier network",
    ),
    "rows of another width": (network([1, 300, 9], "transformer", "inputs", 1, "shape"), "expected float32 [1, 300, 8]"),
    "a picture of four colours": (
        network([1, 4, 32, 32], "vae_decoder", "outputs", 0, "shape"),
        "expected float32/float16/bfloat16 [1, 3, ",
    ),
    "a picture of no size": (
        network([1, 3, 32, 0], "vae_decoder", "outputs", 0, "shape"),
        "image: a size: found 0",
    ),
    "a shape without axes": (network([], "vae_decoder", "outputs", 0, "shape"), "vae_decoder: image: found []"),
    "a free axis": (network([1, 4, "x", 16], "vae_decoder", "inputs", 0, "shape"), "a free axis: found 'x'"),
    "an axis that is no number": (network([1, 4, "²*height", 16], "vae_decoder", "inputs", 0, "shape"), "latents: "),
    "no step": (times([1.0], []), "whether a network reads step: found True, expected False"),
    "no stages": (to([], "chain", "stages"), "chain.stages: found 0, expected 1 to 64"),
    "a stage twice": (stage(0, role="vae_decoder"), "expected each name once"),
    "a stage that is a path": (stage(0, role="../x"), "chain.stages: found '../x', expected names of letters, digits and _"),
    "a stage that is the tokenizer": (stage(0, role="tokenizer"), "chain.stages: found 'tokenizer'"),
    "two stages of one folder": (stage(0, role="Transformer"), "expected names that differ by more than case"),
    "a stage at no time": (stage(0, when="never"), "when text_encoder runs: found 'never', expected 'once' or 'each step'"),
    "no loop": (stage(1, when="once"), "chain.stages: found a loop of [], expected one, unbroken"),
    "a broken loop": (broken_loop, "chain.stages: found a loop of [0, 2], expected one, unbroken"),
    "a stage that replaces none": (
        stage(2, replaces="x"),
        "what vae_decoder replaces: found 'x', expected a stage that runs when",
    ),
    "a stage that replaces itself": (stage(2, replaces="vae_decoder"), "what vae_decoder replaces: found 'vae_decoder'"),
    "a value of two names": (to("latents", "chain", "names", "denoised"), "chain.names: found ["),
    "no picture": (to("photo", "chain", "names", "picture"), "components: found none that gives photo, expected one"),
    "x0 outside the loop": (
        to("prompt_embeds", "chain", "names", "denoised"),
        "text_encoder: prompt_embeds: found outside the loop, expected in it",
    ),
    "a value written twice": (
        network("prompt_mask", "text_encoder", "outputs", 0, "name"),
        "a value that is there, expected a new one",
    ),
    "no networks": (to([], "components"), "components: found none"),
    "a network twice": (lambda whole: whole["components"].append(whole["components"][0]), "each once"),
    "an unknown network": (
        network("upscaler", "vae_decoder", "role"),
        "components: found ['transformer', 'text_encoder', 'upscaler'], expected",
    ),
    "no parts": (network([], "transformer", "parts"), "transformer: parts: found 0, expected 1 to 512"),
    "300 times the same part": (repeat_parts, "expected each graph once"),
    "a part that is no graph": (
        network("model.onnx.data", "transformer", "parts", 0, "graph"),
        "expected a graph among artifacts",
    ),
    "a part elsewhere": (network("../vae_decoder/model.onnx", "transformer", "parts", 0, "graph"), "lies outside the bundle"),
    "a part that reads what is made later": (chain_backwards, "the input later: found nothing that gives it"),
    "an artifact 1500 times": (repeat_artifacts, "artifacts: found 10500, expected at most 4096"),
    "an artifact twice": (
        lambda whole: whole["artifacts"].append(whole["artifacts"][0]),
        "transformer/model.onnx twice as graph",
    ),
    "a negative size": (artifact(bytes=-1), "the size of transformer/model.onnx.data: found -1"),
    "a hash that is none": (artifact(sha256="00"), "the sha256 of transformer/model.onnx.data: found '00'"),
    "an unknown kind": (artifact(kind="virus"), "the kind of transformer/model.onnx.data: found 'virus'"),
    "an engine of no device": (artifact(kind="engine", device="x"), "the device of transformer/model.onnx.data: found 'x'"),
    "an engine for all": (artifact(kind="engine"), "the kind of transformer/model.onnx.data: found 'engine'"),
    "a graph of a device": (artifact(device="rtx-4090"), "found 'weights', expected one of engine, kernels"),
    "an option of another kind": (to({"builder": 1}, "options"), "options: builder=1: expected a text"),
    "an unknown builder": (to({"builder": "x"}, "options"), "options: unknown builder 'x'"),
    "no options": (to({}, "options"), "options: found {}, expected {'builder': 'tensorrt-rtx'}"),
    "two sizes of a file": (
        artifact(path="transformer/model.onnx", kind="shadow"),
        "found two sizes or hashes, expected one of each",
    ),
    "names that differ by case": (artifact(path="transformer/MODEL.onnx"), "found transformer/model.onnx in two spellings"),
    "a name with a dot": (artifact(path="transformer/./model.onnx"), "is no name of a file in the bundle"),
    "no tokenizer": (lambda whole: whole["artifacts"].pop(), "found no tokenizer/tokenizer.json"),
    "a range of NaN": (layer(1e39, "input_amax"), "input_amax: found 1e+39"),
    "a negative range": (layer(-1.0, "input_amax"), "input_amax: found -1.0"),
    "a negative group": (layer(-1, "group"), "group: found -1"),
    "an axis below zero": (layer(-1, "weight_axis"), "weight_axis: found -1"),
    "scales of no type": (layer("fp31", "scale_dtype"), "scale_dtype: found 'fp31'"),
    "an unknown scheme of a layer": (layer("fp9", "scheme"), "scheme: found 'fp9', expected one of bf16, "),
    "a scheme that rounds nothing": (layer("bf16", "scheme"), "scheme: found 'bf16', expected one that rounds"),
    "a range where none is measured": (layer("w8a16", "scheme"), "expected null: w8a16 measures no range"),
    "no range where one is measured": (layer(None, "input_amax"), "input_amax: found None, expected the range that its inputs"),
    "fewer than no weights": (
        network(-1, "transformer", "precision_counts", "FLOAT8E4M3FN"),
        "weights in FLOAT8E4M3FN: found -1",
    ),
    "an unknown precision": (to("int9", "precision"), "precision: found 'int9', expected one of bf16, int8, fp8, fp8a16, w4a16"),
    "a precision of other targets": (to("w4", "precision"), "precision: found 'w4'"),
    "an unknown target": (
        to("tpu", "target"),
        "target: found 'tpu', expected one of coreai, coreml, gpu, onnx, openvino, trt, web",
    ),
    "an unknown device": (to("rtx-1", "device"), "device: found 'rtx-1'"),
    "an unknown family": (to("flux", "family"), "family: found 'flux'"),
    "an unknown layout": (to("zigzag", "layout"), "layout: found 'zigzag'"),
    "a rewrite of another target": (
        network({"fired": 1, "expected": 0}, "transformer", "rewrites", "gather_rows"),
        "transformer.rewrites: found 'gather_rows', expected one of scale_after_conv, ",
    ),
    "fewer than no rewrites": (
        network({"fired": -1, "expected": 0}, "transformer", "rewrites", "cross_attention"),
        "transformer.rewrites.cross_attention.fired: found -1, expected 0 to ",
    ),
    "a version that is none": (to("new", "runtimes", "onnxruntime"), "runtimes.onnxruntime: found 'new', expected a version"),
    "a version without end": (to("9" * 5000, "runtimes", "onnxruntime"), "runtimes.onnxruntime: found '999"),
    "runtimes without end": (to({f"r{i}": "1" for i in range(99)}, "runtimes"), "runtimes: found 99, expected at most 16"),
    "rules without end": (lambda whole: whole["recipe"].update(rules=whole["recipe"]["rules"] * 50_000), "recipe.rules"),
    "no rules": (to([], "recipe", "rules"), "recipe.rules: found 0"),
    "smooth beyond one": (to(1.5, "recipe", "smooth"), "recipe.smooth: found 1.5"),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_bundle(tmp_path_factory.mktemp("small") / "bundle").folder


@pytest.mark.parametrize("case", BAD)
def test_a_manifest_that_makes_no_sense_is_refused(small: Path, case: str) -> None:
    """Its hash fits: whoever signed it has no say in what sense is."""
    change, part = BAD[case]
    manifest = (small / "bundle.json").read_bytes()
    try:
        edit_manifest(small, change)
        with pytest.raises(BundleError) as caught:
            read_bundle(small)
    finally:
        (small / "bundle.json").write_bytes(manifest)
    assert f"{small / 'bundle.json'} makes no sense: " in str(caught.value)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_small_bundle_itself_is_read(small: Path) -> None:
    assert len(read_bundle(small).components) == len(NETWORKS)
