"""`run` as people expect it: several pictures, a grid, names, prompts of a file, and what stands in a PNG."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sprint_export.export.bundle import hash_file
from sprint_export.runtimes import open_bundle
from tests.bundles import check_refused, list_files, run_command, shared_bundle

PROMPT, OTHER = "a red circle above a blue square", "ein gelber Kreis – ü"


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


def test_several_pictures_of_several_prompts_each_with_its_seed(int8: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(f"# mine\n{OTHER}\n", "utf-8")
    more = ("--prompts", "prompts.txt", "--count", 2, "--seed", 5, "-o", "{prompt}-{seed}.png", "--json")
    done = run_command("run", int8, PROMPT, *more, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert [(each["prompt"], each["seed"]) for each in value["pictures"]] == [(PROMPT, 5), (PROMPT, 6), (OTHER, 7), (OTHER, 8)]
    assert value["pictures"][3]["file"] == "ein-gelber-kreis-ü-8.png"
    assert (value["steps"], value["size"], value["target"]) == (1, [64, 64], "onnx-int8")
    assert [len(value["milliseconds"][role]) for role in ("text_encoder", "transformer", "vae_decoder")] == [2, 4, 4]
    assert value["milliseconds"]["total"] >= sum(value["milliseconds"]["transformer"])
    assert value["bundle_sha256"] == hash_file(int8 / "bundle.json")
    wanted = open_bundle(int8)([PROMPT, PROMPT, OTHER, OTHER], seed=5)
    found = [np.asarray(Image.open(tmp_path / each["file"])) for each in value["pictures"]]
    assert np.array_equal(np.stack(found), wanted)


def test_a_png_says_what_it_was_drawn_from_to_us_and_to_other_tools(int8: Path, tmp_path: Path) -> None:
    first, second = (run_command("run", int8, OTHER, "--seed", 3, folder=tmp_path) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "replaced" not in first.stderr
    assert "replaced out.png" in second.stderr, "a file that was there is replaced, and that is said"
    info = Image.open(tmp_path / "out.png").info
    assert (info["prompt"], info["seed"], info["steps"], info["student"]) == (OTHER, "3", "1", "sprint-tiny")
    assert info["bundle sha256"] == hash_file(int8 / "bundle.json")
    assert info["parameters"].startswith(f"{OTHER}\nSteps: 1, Seed: 3, Size: 64x64, Model: sprint-tiny, Model hash: ")
    assert json.loads(info["sprint-export"])["runs_on"].startswith("ONNX Runtime")


def test_a_grid_is_one_file_with_a_row_for_each_prompt(int8: Path, tmp_path: Path) -> None:
    done = run_command("run", int8, PROMPT, OTHER, "--count", 3, "--grid", "-o", "grid.png", folder=tmp_path)
    assert done.stdout == "grid.png\n"
    assert list_files(tmp_path) == {"grid.png"}
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (2 * 64 + 4, 3 * 64 + 8, 3)
    wanted = open_bundle(int8)([PROMPT, OTHER], count=3)
    assert np.array_equal(grid[68:, 136:], wanted[5])
    assert (grid[64:68] == 255).all()


def test_a_folder_gets_names_of_the_prompts(int8: Path, tmp_path: Path) -> None:
    done = run_command("run", int8, PROMPT, OTHER, "-o", tmp_path, folder=tmp_path)
    assert {Path(line).name for line in done.stdout.splitlines()} == {
        "0-a-red-circle-above-a-blue-square.png",
        "1-ein-gelber-kreis-ü.png",
    }


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("no prompt; expected one or more", "--prompts FILE")),
        (("a", "--count", "0"), ("count=0: expected how many pictures",)),
        (("a", "b", "-o", "{prompt}.png", "--count", "2"), ("gives", "a.png to two pictures; put {index} into it")),
        (("a", "-o", "{sead}.png"), ("there is no field {sead}; choose from: {index}, {seed}, {prompt}",)),
        (("a", "--control", "missing.png"), ("--control missing.png: there is no such file",)),
        (("a", "--image", "missing.png"), ("--image missing.png: there is no such file",)),
        (("a", "--prompts", "missing.txt"), ("--prompts missing.txt: cannot be read",)),
    ],
)
def test_a_mistake_is_said_by_its_option_before_networks_are_loaded(
    int8: Path, tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    done = run_command("run", int8, *arguments, folder=tmp_path)
    check_refused(done, 2, *parts)
    assert "runs on" not in done.stderr
    assert list_files(tmp_path) == set()
