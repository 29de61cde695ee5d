"""The real command in a process of its own: exit status, one clear line on stderr, JSON on stdout, nothing half-written."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bundles import check_refused, copy_bundle, edit_manifest, list_files, run_command, shared_bundle
from tests.command_server import COMMAND
from tests.tree import ROLES, ROOT

TINY = ROOT / "students" / "sprint_tiny"
TARGETS = "coreai-fp16, coreai-fp32, coreai-fp8, coreai-int8, coreai-w8a8, coreml-fp16, coreml-fp32, coreml-int8, "
TARGETS += "coreml-w4, coreml-w6, coreml-w8a8, gpu-fp8, gpu-int8, onnx-fp16, onnx-fp32, onnx-fp8, onnx-fp8a16, onnx-int8, "
TARGETS += "onnx-w4a16, openvino-fp16, openvino-int4, openvino-int8, trt-bf16, trt-fp8, trt-fp8a16, trt-int8, trt-w4a16, "
TARGETS += "web-fp16, web-int8, web-w4a16"
TWO = ("--component", "text_encoder", "--component", "vae_decoder")  # float32: 2.0 and 2.1 MB


@pytest.fixture
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx")
    return shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The working directory of a command, with files a user might point at by mistake."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "empty.txt").write_text("\n# a comment\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (
            "--student ./nowhere/to/be/found --target trt-fp8",
            2,
            ["unknown student './nowhere/to/be/found'", "sprint-tiny", "diffusers folder"],
        ),
        ("--target trt-fp9", 2, [f"unknown target 'trt-fp9'; choose from: {TARGETS}"]),
        ("--target coreml-fp8", 2, ["Core ML has no FP8 type", "nearest are coreml-w8a8", "coreai-fp8"]),
        (
            "--target trt-fp8 --device rtx-3090",
            2,
            ["FP8 needs compute capability 8.9 or newer; rtx-3090 has 8.6; use trt-int8"],
        ),
        ("--target trt-fp8 --device gtx", 2, ["unknown device 'gtx'; choose from: core-ultra-7-258v, cpu, h100"]),
        ("--target onnx-fp32 --out file", 2, ["--out file is a file", "expected a folder that is new, empty or holds a bundle"]),
        ("--target onnx-fp32 --out file/deep/out", 2, ["--out file/deep/out:", "file is not a folder that can be written to"]),
        ("--target onnx-fp32 --out full", 2, ["--out full holds files but no bundle.json", "left alone"]),
        ("--target onnx-fp32 --out .", 2, ["--out . is where you are working"]),
        ("--target onnx-fp32 --prompts none.txt", 2, ["--prompts none.txt: cannot be read", "No such file"]),
        ("--target onnx-fp32 --prompts full", 2, ["--prompts full: cannot be read", "Is a directory"]),
        ("--target onnx-fp32 --prompts empty.txt", 2, ["--prompts empty.txt has no prompts; expected one a line"]),
        ("--target onnx-fp32 --prompts binary.txt", 2, ["--prompts binary.txt: cannot be read as UTF-8 text"]),
        ("--target onnx-fp32 --gate psnr=30", 2, ["gate 'psnr=30' is not of the form metric>=number"]),
        ("--target onnx-fp32 --count 0", 2, ["count=0: expected at least one prompt"]),
        (
            "--target onnx-fp32 --lora no.safetensors:0.5",
            2,
            ["--lora no.safetensors: expected safetensors, a folder of them or a hub id"],
        ),
        ("--target onnx-fp32 --times 1,0", 2, ["--times 1,0: expected 1 to 4 falling flow times in (0, 1]"]),
        ("--target onnx-fp32 --student file", 2, ["file is a file; expected a diffusers folder with a model_index.json, or"]),
        ("--target onnx-fp32 --steps 9", 2, ["steps=9", "choose one of 1, 2, 3, 4"]),
        ("--target onnx-fp32 --steps many", 2, ["--steps many: expected a number from 1 to 4, or several with commas"]),
        (
            "--target onnx-fp32 --component unet",
            2,
            ["unknown component 'unet'; choose from: controlnet, text_encoder, transformer, vae_decoder, vae_encoder"],
        ),
        (
            "--target onnx-int8 --recipe none.toml",
            2,
            ["unknown recipe 'none.toml'; choose from: auto, balanced, faithful, fast, or the path of a"],
        ),
        ("--target trt-fp8 --builder make", 2, ["unknown builder 'make'; choose from: tensorrt, tensorrt-rtx"]),
        ("", 2, ["target"]),
        ("--dry-run --count 4", 2, ["--target is missing; e.g. sprint-export --target trt-fp8"]),
        ("--targt trt-fp8", 2, ["No such option: --targt", "See: sprint-export --help"]),
        ("pack full", 2, ["Missing option '--for'. See: sprint-export pack --help"]),
        ("list", 2, ["what to list is missing; choose from: devices, precisions, providers, recipes, students, targets"]),
        ("lst targets", 2, ["No such command 'lst'"]),
        ("list engines", 2, ["unknown list 'engines'; choose from: devices, precisions, providers, recipes, students, targets"]),
        ("inspect full", 2, ["full is not a bundle: it has no bundle.json", "--out full"]),
        ("run nowhere a-prompt", 2, ["nowhere is not a bundle"]),
        ("run full a-prompt -o missing/a.png", 2, ["-o missing/a.png: the folder", "does not exist"]),
        ("validate full", 2, ["full is not a bundle"]),
        ("bench full", 2, ["full is not a bundle"]),
        ("build full", 2, ["full is not a bundle"]),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(here: Path, arguments: str, status: int, parts: list[str]) -> None:
    before = list_files(here)
    check_refused(run_command(*arguments.split(), folder=here), status, *parts)
    assert list_files(here) == before


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="says what a machine without a GPU lacks")
def test_the_classic_builder_without_a_gpu_says_what_the_machine_lacks(here: Path) -> None:
    before = list_files(here)
    done = run_command("--target", "trt-fp8", "--builder", "tensorrt", folder=here)
    check_refused(done, 3, "builds only on the GPU", "no NVIDIA GPU or no driver", "use --builder tensorrt-rtx")
    assert list_files(here) == before


def truncate_weights(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def widen_config(folder: Path) -> None:
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_layers": 5}))


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (truncate_weights, ["diffusion_pytorch_model.safetensors is truncated", "download it again"]),
        (widen_config, ["transformer/config.json: num_layers=5: the config does not fit its weights"]),
    ],
    ids=["truncated", "misfit"],
)
def test_a_damaged_student_is_one_clear_line(tmp_path: Path, damage: Callable[[Path], None], parts: list[str]) -> None:
    student = Path(shutil.copytree(TINY, tmp_path / "student"))
    damage(student)
    before = list_files(tmp_path)
    check_refused(run_command("--target", "onnx-fp32", "--student", "student", "--out", "out", folder=tmp_path), 2, *parts)
    assert list_files(tmp_path) == before


def can_mount(folder: Path, size: str = "1m", keep: bool = False) -> bool:
    """Whether this user may mount a small disk in memory at `folder`; it stays there when `keep` is true."""
    if shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        return False
    return keep or subprocess.check_call(["umount", folder]) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    """A disk that takes the first of TWO and not the second, and what makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk, "3m", keep=True):
        pytest.skip("a small disk needs the right to mount one")
    yield disk, lambda: subprocess.check_call(["mount", "-o", "remount,size=32m", disk])
    subprocess.check_call(["umount", disk])


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(
    tmp_path: Path, small_disk: tuple[Path, Callable[[], object]]
) -> None:
    disk, make_room = small_disk
    command = ("--target", "onnx-fp32", *TWO, "--out", disk / "out")
    check_refused(
        run_command(*command, folder=tmp_path), 3, "will take more than", f"MB free at {disk}", "run the same command again"
    )
    assert not list(disk.rglob("*.data")) and not (disk / "out").exists()
    make_room()
    assert run_command(*command, folder=tmp_path).returncode == 0
    assert [path.name for path in disk.iterdir()] == ["out"]
    assert run_command("inspect", disk / "out", folder=tmp_path).returncode == 0, "sizes and sha256 fit"


def test_a_full_disk_is_named_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """A quota on file size stands for a disk that fills up while the second network is written: EFBIG in place of ENOSPC."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    command = ("--target", "onnx-fp32", *TWO, "--out", "out")
    check_refused(run_command(*command, folder=tmp_path, prepare=limit), 3, "the disk is full", "run the same command again")
    assert not (tmp_path / "out").exists()
    kept = tmp_path / ".out.partial" / "bundle" / "text_encoder" / "model.onnx.data"
    before = kept.stat().st_mtime_ns
    assert run_command(*command, folder=tmp_path).returncode == 0
    assert (tmp_path / "out" / "text_encoder" / "model.onnx.data").stat().st_mtime_ns == before, "a finished component was redone"


def test_a_killed_run_leaves_no_bundle_and_the_next_one_goes_on(tmp_path: Path) -> None:
    arguments = ["--target", "onnx-fp32", *TWO, "--out", "out"]
    finished = tmp_path / ".out.partial" / "records" / "text_encoder.json"
    made = tmp_path / ".out.partial" / "bundle" / "text_encoder"
    with subprocess.Popen([COMMAND, *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not finished.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL, "the command ended before it could be killed"
    assert finished.exists()
    assert not (tmp_path / "out").exists()
    before = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    done = run_command(*arguments, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"bundle": "out"}
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "text_encoder").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not [name for name in list_files(tmp_path) if ".part" in name]


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [COMMAND, "--target", "onnx-fp32", *TWO, "--out", "out"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        while "exporting" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.rstrip().endswith("stopped; run the same command again to go on where it stopped")
    assert "Traceback" not in rest
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["students", "targets", "precisions", "devices", "recipes"])
def test_lists_are_the_same_for_people_and_programs(tmp_path: Path, kind: str) -> None:
    text, parsed = run_command("list", kind, folder=tmp_path), run_command("list", kind, "--json", folder=tmp_path)
    assert text.returncode == parsed.returncode == 0
    assert text.stderr == parsed.stderr == ""
    value = json.loads(parsed.stdout)
    assert [line.split("  ")[0] for line in text.stdout.splitlines()] == list(value)
    known = {"students": "sprint-tiny", "targets": "trt-fp8", "precisions": "fp8", "devices": "rtx-4090", "recipes": "auto"}[kind]
    assert value[known]


def test_help_names_every_verb(tmp_path: Path) -> None:
    done = run_command("--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for verb in ("list", "inspect", "run", "check", "validate", "bench", "build", "pack"):
        assert re.search(rf"^\W+{verb}\s", done.stdout, re.MULTILINE), verb
    panels = re.findall(r"^╭─ (.+?) ─", done.stdout, re.MULTILINE)
    wanted = (
        "Options, Student, Quantization, Validation, Apple, Apple and OpenVINO, ONNX and OpenVINO, "
        "ONNX and OpenVINO and TensorRT, OpenVINO, TensorRT, Output, Commands"
    )
    assert ", ".join(panels) == wanted, "what everybody needs comes first"
    assert run_command("-h", folder=tmp_path).stdout == done.stdout
    for verb in ("list", "inspect", "run", "check", "validate", "bench", "build", "pack"):
        assert run_command(verb, "-h", folder=tmp_path).returncode == 0


def test_the_same_command_twice_says_nothing_to_do_and_validates_again(fp8: Path, tmp_path: Path) -> None:
    folder = copy_bundle(fp8, tmp_path / "out")
    (folder / "report.json").unlink()
    engine = folder / "transformer" / "model.sm89.engine"
    before = engine.stat().st_mtime_ns
    done = run_command("--target", "trt-fp8", "--out", "out", "--count", 2, "--gate", "psnr_db>=5", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "out was made from the same inputs; nothing to do but validate it" in done.stderr
    assert engine.stat().st_mtime_ns == before
    report = json.loads(done.stdout)
    assert report == json.loads((folder / "report.json").read_text("utf-8"))
    assert (report["prompts"], report["passed"], report["target"]) == (2, True, "trt-fp8")


def test_a_gate_that_is_not_met_is_status_1_and_the_bundle_is_kept(fp8: Path, tmp_path: Path) -> None:
    folder = copy_bundle(fp8, tmp_path / "bundle")
    done = run_command("validate", "bundle", "--count", 1, "--gate", "psnr_db>=99", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert re.search(r"^gate not met: psnr_db.*psnr_db>=99.* The bundle is kept\.$", done.stderr, re.MULTILINE)
    report = json.loads(done.stdout)
    assert report["passed"] is False
    assert [row["limit"] for row in report["rows"] if row["verdict"] == "not met"] == ["psnr_db>=99"]
    assert list_files(folder) == list_files(fp8)
    assert run_command("inspect", "bundle", folder=tmp_path).returncode == 0


def test_parts_to_validate_with_belong_to_a_student(fp8: Path, tmp_path: Path) -> None:
    done = run_command("validate", fp8, "--lora", "style.safetensors", folder=tmp_path)
    assert done.returncode == 2
    assert "belong to a checkpoint; give that with --student too" in done.stderr


def test_inspect_says_what_is_in_a_bundle(fp8: Path, tmp_path: Path) -> None:
    done = run_command("inspect", fp8, "--layers", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("sprint-tiny (sana_sprint) as trt-fp8 for rtx-4090; 1 step(s), guidance 4.5; licence: ")
    for role, kind in zip(ROLES, ("FLOAT8E4M3FN", "FLOAT8E4M3FN", "INT8"), strict=True):
        assert re.search(rf"^{role}: \d+\.\d+ MB; values stored as .*{kind} [\d,]+", done.stdout, re.MULTILINE), role
    assert re.search(
        r"^    transformer_blocks\.0\.attn1\.to_q: fp8, input amax [\d.]+, weights per output channel$", done.stdout, re.MULTILINE
    )
    value = json.loads(run_command("inspect", fp8, "--json", folder=tmp_path).stdout)
    assert [component["role"] for component in value["components"]] == list(ROLES)


def test_run_writes_a_picture_of_the_right_size_and_prints_its_path_whole(fp8: Path, tmp_path: Path) -> None:
    """The path is longer than a terminal is wide and looks like markup: a script must get it as it is."""
    folder = tmp_path / ("deep" * 25) / "[red]"
    folder.mkdir(parents=True)
    done = run_command("run", fp8, "a large red circle in the center", "-o", folder / "a.png", "--seed", 1, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / 'a.png'}\n"
    assert "runs on ONNX Runtime" in done.stderr
    picture = np.asarray(Image.open(folder / "a.png"))
    assert picture.dtype == np.uint8
    assert picture.shape == (64, 64, 3)
    assert picture.std() > 10, "a flat picture proves nothing"


def test_run_numbers_the_pictures_of_several_prompts(fp8: Path, tmp_path: Path) -> None:
    done = run_command("run", fp8, "a red circle on the left", "a blue square on the left", folder=tmp_path)
    assert done.stdout.split() == ["out-0.png", "out-1.png"]
    first, second = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in done.stdout.split())
    assert np.abs(first - second).max() > 50


def test_run_refuses_a_name_that_is_no_picture(fp8: Path, tmp_path: Path) -> None:
    done = run_command("run", fp8, "a red circle on the left", "-o", "a.xyz", folder=tmp_path)
    check_refused(done, 2, "-o a.xyz: cannot be written as a picture", "ends in .png")
    assert list_files(tmp_path) == set()


def test_build_lists_the_engines_as_json(fp8: Path, tmp_path: Path) -> None:
    folder = copy_bundle(fp8, tmp_path / "bundle")
    done = run_command("build", folder, "--device", "rtx-4070", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"device": "rtx-4070", "engines": [f"{role}/model.sm89.engine" for role in ROLES]}
    check_refused(run_command("build", folder, "--device", "rtx-3090", folder=tmp_path), 2, "FP8 needs", "use trt-int8")


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="says what a machine without a GPU lacks")
def test_the_engine_runtime_without_a_gpu_is_status_3(fp8: Path, tmp_path: Path) -> None:
    done = run_command("run", fp8, "a red circle on the left", "--runtime", "trt", folder=tmp_path)
    check_refused(done, 3, "trt cannot run here: no NVIDIA GPU or no driver")


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x7f"),
            "was altered: its sha256 is not the one in bundle.json",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "it is truncated, copy or export it again"),
        (lambda path: path.unlink(), "is missing; the bundle is incomplete"),
    ],
    ids=["altered", "truncated", "missing"],
)
def test_a_damaged_bundle_is_not_opened(fp8: Path, tmp_path: Path, damage: Callable[[Path], object], part: str) -> None:
    folder = copy_bundle(fp8, tmp_path / "bundle")
    damage(folder / "transformer" / "model.onnx.data")
    for verb in (["inspect", folder], ["run", folder, "a red circle"]):
        check_refused(run_command(*verb, folder=tmp_path), 2, "transformer/model.onnx.data", part)


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname"])
def test_a_manifest_that_points_outside_is_refused(fp8: Path, tmp_path: Path, path: str) -> None:
    folder = copy_bundle(fp8, tmp_path / "bundle")
    (tmp_path / "secret").write_text("mine")
    edit_manifest(folder, lambda value: value["artifacts"][0].update(path=path))
    check_refused(run_command("inspect", folder, folder=tmp_path), 2, f"names {path!r}, which lies outside the bundle")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', '{"format": 99}'])
def test_a_damaged_manifest_is_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text)
    check_refused(run_command("inspect", tmp_path, folder=tmp_path), 2, "bundle.json", "export the student again")


def test_a_pipe_that_closes_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"'{COMMAND}' list devices | head -n 1", shell=True, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("core-ultra-")
    assert done.stderr == ""


def test_no_terminal_and_no_colours_are_needed(tmp_path: Path) -> None:
    done = run_command("list", "targets", folder=tmp_path, environment={"PATH": os.environ["PATH"]})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
