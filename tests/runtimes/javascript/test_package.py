"""The JavaScript package, packed and installed, draws Python's pictures in Node and in headless Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from sprint_export.export.bundle import read_bundle
from sprint_export.noise import make_normals
from sprint_export.prompt_reader import PromptReader
from sprint_export.runtimes.open import open_bundle
from sprint_export.students.chat_prompt import CHAT_TOKENIZER
from sprint_export.students.networks.qwen2_tokenizer import find_tokenizer
from sprint_export.students.sana_sprint.presets import LONG_PREFIX
from tests.bundles import shared_bundle
from tests.runtimes.javascript.byte_fallback import write_tokenizer
from tests.runtimes.javascript.other_tokenizer import PADDING, copy_with_tokenizer
from tests.runtimes.javascript.pictures import read_picture, read_value
from tests.runtimes.javascript.programs import (
    HERE,
    PACKAGE,
    SOFTWARE_GPU,
    has_node,
    make_work_folder,
    run_in_browser,
    run_in_node,
    run_program,
)
from tests.students.ten_scripts import list_prompts

pytestmark = pytest.mark.skipif(not has_node(), reason="node and npm are not installed")

PROMPT = "a large red circle above a small blue square"
SEEDS = ("0", "3", str(2**53 + 1), str(2**64 - 1))
ONE = {"threads": 1}
STEPS = (1, 2, 4)
KINDS = ("words", "chat", "byte_fallback")  # of tokenizers
WORDS = LONG_PREFIX / "tokenizer.json"
# Roundings that WebAssembly's order of sums tips over: largest difference, and the share of values above 0 (fp32) or 2 (int8).
FEW_APART = {"fp32": (1, 0.001), "int8": (8, 0.02)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    folder = make_work_folder(tmp_path_factory.mktemp("javascript"))
    shutil.copytree(shared_bundle(base, "onnx-int8"), folder / "int8")
    shutil.copytree(shared_bundle(base, "onnx-fp32", validate=False, steps=STEPS), folder / "steps")
    shutil.copytree(shared_bundle(base, "onnx-w4a16", validate=False), folder / "w4a16")
    _copy_altered(folder / "int8", folder / "altered", "transformer/model.onnx.data")
    _copy_inverted(folder / "int8", folder / "inverted")
    write_tokenizer(folder / "bytes.json", list_prompts()[:120:2])
    files = (WORDS, find_tokenizer(CHAT_TOKENIZER, CHAT_TOKENIZER) / "tokenizer.json", folder / "bytes.json")
    for name, file in zip(KINDS, files, strict=True):
        copy_with_tokenizer(folder / "int8", folder / name, file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def jobs(folder: Path) -> list[dict[str, Any]]:
    drawings = [{"prompt": PROMPT, "seed": 5, "steps": steps} for steps in STEPS]
    return [
        {"do": "draw", "bundle": "steps", "options": ONE, "drawings": drawings},
        {"do": "draw", "bundle": "steps", "options": ONE | {"oneAtATime": True}, "drawings": drawings[:1]},
        {"do": "draw", "bundle": "int8", "options": ONE, "drawings": drawings[:1]},
        *({"do": "noise", "seed": seed, "count": 5000} for seed in SEEDS),
        {"do": "progress", "bundle": "int8", "options": ONE},
        {"do": "abort", "bundle": "int8", "options": ONE},
        {"do": "draw", "bundle": "altered", "options": ONE | {"cache": False}, "drawings": drawings[:1]},
        {"do": "draw", "bundle": "int8", "options": ONE | {"provider": "cuda"}, "drawings": drawings[:1]},
        {"do": "draw", "bundle": "int8", "options": ONE, "drawings": [{"prompt": PROMPT, "steps": 3}]},
        *({"do": "ids", "bundle": name, "options": ONE, "prompts": list_prompts()} for name in ("int8", *KINDS)),
        {"do": "draw", "bundle": "w4a16", "options": ONE, "drawings": drawings[:1]},
    ]


@pytest.fixture(scope="module")
def in_node(folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return run_in_node(folder, jobs)


@pytest.fixture(scope="module")
def in_page(folder: Path, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    drawings = [{"prompt": PROMPT, "seed": 5}]
    more: list[dict[str, Any]] = [
        {"do": "draw", "bundle": "altered", "options": ONE, "drawings": drawings},
        {"do": "spoil"},
        {"do": "draw", "bundle": "int8", "options": ONE, "drawings": drawings},
        *({"do": "check", "bundle": name, "options": ONE | {"compare": True}} for name in ("int8", "inverted")),
    ]
    found = run_in_browser(folder, [*jobs, *more], headers={})
    count = len(jobs)
    return found | {"results": found["results"][:count], "more": found["results"][count:]}


@pytest.fixture(params=["Node", "Chromium"])
def results(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Of the jobs, in their order."""
    if request.param == "Node":
        found: list[dict[str, Any]] = request.getfixturevalue("in_node")
        return found
    page: list[dict[str, Any]] = request.getfixturevalue("in_page")["results"]
    return page


def test_pictures_of_every_step_count_are_pythons(
    folder: Path, results: list[dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    largest, share = FEW_APART["fp32"] if "Chromium" in request.node.name else (0, 0.0)
    pictures = [read_picture(one) for one in read_value(results[0])]
    for steps, picture in zip(STEPS, pictures, strict=True):
        apart = np.abs(picture - _draw(folder / "steps", steps))
        assert apart.max() <= largest and (apart > 0).mean() <= share, (steps, apart.max(), (apart > 0).mean())
    assert np.abs(pictures[0] - pictures[2]).max() > 0


def test_one_network_at_a_time_draws_the_same(results: list[dict[str, Any]]) -> None:
    assert read_value(results[1])[0]["rgba"] == read_value(results[0])[0]["rgba"]


def test_int8_is_pythons_but_for_roundings(folder: Path, results: list[dict[str, Any]]) -> None:
    apart = np.abs(read_picture(read_value(results[2])[0]) - _draw(folder / "int8", 1))
    largest, share = FEW_APART["int8"]
    assert apart.max() <= largest and (apart > 2).mean() <= share, (apart.max(), (apart > 2).mean())


def test_weights_in_four_bits_multiply_what_python_multiplies(folder: Path, in_node: list[dict[str, Any]]) -> None:
    drawn = read_picture(read_value(in_node[16])[0])
    np.testing.assert_array_equal(drawn, _draw(folder / "w4a16", 1))  # rounded to 8 bits first they are 11 apart


def test_noise_is_pythons_to_the_bit(results: list[dict[str, Any]]) -> None:
    for seed, result in zip(SEEDS, results[3:7], strict=True):
        assert base64.b64decode(read_value(result)) == make_normals(int(seed), 5000).tobytes()


def test_progress_is_told_in_bytes(folder: Path, results: list[dict[str, Any]]) -> None:
    told: list[dict[str, Any]] = read_value(results[7])
    last = {one["stage"]: one for one in told}
    assert set(last) == {"tokenizer", "text_encoder", "transformer", "vae_decoder"}
    app = json.loads((folder / "int8" / "app.json").read_text("utf-8"))
    sizes = {file["path"]: file["bytes"] for file in app["files"]}
    assert all(one["done"] == one["total"] for one in last.values())
    assert last["transformer"]["total"] == sum(size for path, size in sizes.items() if path.startswith("transformer/"))


def test_an_abort_stops_before_the_next_network_and_leaves_the_pipeline_usable(results: list[dict[str, Any]]) -> None:
    assert read_value(results[8]) == {"name": "AbortError", "ran": ["text_encoder"], "width": 64}


def test_altered_files_other_providers_and_step_counts_are_refused(results: list[dict[str, Any]]) -> None:
    altered, provider, steps = (result["error"] for result in results[9:12])
    assert altered["code"] == "file" and "transformer/model.onnx.data" in altered["message"] and "sha256" in altered["message"]
    assert provider["code"] in ("provider", "network") and "cuda" in provider["message"]
    assert steps["code"] == "input" and "draws in 1" in steps["message"]


def test_a_file_that_a_browser_keeps_is_not_fetched_again_unless_it_was_damaged(in_page: dict[str, Any]) -> None:
    whole: dict[str, Any] = in_page["results"][2]
    kept, spoilt, again = in_page["more"][:3]
    assert read_value(kept)[0]["rgba"] == read_value(whole)[0]["rgba"]  # the server's own is altered
    assert read_value(spoilt) > 0 and read_value(again)[0]["rgba"] == read_value(whole)[0]["rgba"]


def test_a_first_picture_that_is_not_the_reference_is_refused(in_page: dict[str, Any]) -> None:
    right, error = read_value(in_page["more"][3])["drawings"][0], in_page["more"][4]["error"]
    assert right["largest"] <= FEW_APART["int8"][0] and right["sameIds"]
    assert error["code"] == "provider" and "of 255 apart from the bundle's reference" in error["message"], error


def test_ids_of_200_prompts_in_ten_scripts_are_pythons(folder: Path, results: list[dict[str, Any]]) -> None:
    for name, result in zip(KINDS, results[13:16], strict=True):
        tokenizer = Tokenizer.from_file(str(folder / name / "tokenizer" / "tokenizer.json"))
        wanted = [tokenizer.encode(prompt).ids for prompt in list_prompts()]
        assert [ids[: ids.index(PADDING)] for ids in read_value(result)] == wanted, name


def test_prompts_are_prepared_as_in_python(folder: Path, results: list[dict[str, Any]]) -> None:
    plan = read_bundle(folder / "int8").prompt
    assert plan is not None
    ids, _ = PromptReader(plan, folder / "int8" / "tokenizer" / "tokenizer.json").read(list_prompts())
    assert read_value(results[12]) == ids.tolist()


def test_threads_need_an_isolated_page_and_draw_the_same_there(folder: Path) -> None:
    job = {"do": "draw", "bundle": "steps", "options": {"threads": 2}, "drawings": [{"prompt": PROMPT, "seed": 5}]}
    alone = run_in_browser(folder, [job], headers={})
    assert alone["isolated"] is False and alone["results"][0]["error"]["code"] == "provider"
    isolated = run_in_browser(folder, [job])
    assert isolated["isolated"] is True
    apart = np.abs(read_picture(read_value(isolated["results"][0])[0]) - _draw(folder / "steps", 1))
    assert apart.max() <= FEW_APART["fp32"][0]


def test_webgpu_draws_on_a_software_adapter_and_is_refused_without_one(folder: Path) -> None:
    job = {"do": "draw", "bundle": "steps", "options": {"provider": "webgpu"}, "drawings": [{"prompt": PROMPT, "seed": 5}]}
    error = run_in_browser(folder, [job])["results"][0]["error"]
    assert error["code"] == "provider" and '"webgpu"' in error["message"]
    drawn = run_in_browser(folder, [job], flags=SOFTWARE_GPU)["results"][0]
    assert np.abs(read_picture(read_value(drawn)[0]) - _draw(folder / "steps", 1)).max() <= 2  # its sums have another order


def test_types_hold(folder: Path) -> None:
    shutil.copytree(PACKAGE, folder / "package")
    for name in ("tsconfig.json", "uses.mts"):
        shutil.copy(HERE / name, folder)
    run_program(["node", "node_modules/typescript/bin/tsc", "-p", "."], folder)


def test_only_what_is_needed_is_packed(folder: Path) -> None:
    packed = {
        str(path.relative_to(folder / "node_modules/sprint-export"))
        for path in (folder / "node_modules/sprint-export").rglob("*.*")
    }
    sources = {f"src/{path.name}" for path in (PACKAGE / "src").iterdir()}
    assert packed == sources | {"package.json", "README.md", "index.d.ts", "node.js", "web.js", "validate.js"}


def _draw(bundle: Path, steps: int) -> Any:
    return open_bundle(bundle, steps=steps)([PROMPT], seed=5)[0].astype(int)


def _copy_altered(source: Path, target: Path, name: str) -> None:
    shutil.copytree(source, target)
    data = bytearray((target / name).read_bytes())
    data[len(data) // 2] ^= 1
    (target / name).write_bytes(data)


def _copy_inverted(source: Path, target: Path) -> None:
    """A bundle whose reference is another picture, as a wrong kernel would have drawn it."""
    shutil.copytree(source, target)
    file = target / "reference" / "reference.json"
    said = json.loads(file.read_text("utf-8"))
    picture = said["drawings"][0]["picture"]
    with Image.open(target / picture["file"]) as drawn:
        inverted = 255 - np.asarray(drawn)
    Image.fromarray(inverted).save(target / picture["file"])
    picture["sha256"] = hashlib.sha256(inverted.tobytes()).hexdigest()
    file.write_text(json.dumps(said), "utf-8")
