"""What sprint-draw measures on a device is joined by `report --merge` as Python's own results are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.validate.against_reference import validate_against_reference
from sprint_export.validate.latency.quantiles import bound_median, bound_quantile, count_needed, find_quantile
from sprint_export.validate.merging.files import write_merged
from sprint_export.validate.merging.merge import merge_results
from sprint_export.validate.merging.result import format_result, read_result
from tests.bundles import copy_bundle, edit_manifest, shared_bundle
from tests.runtimes.cpp.programs import ask_probe, draw_picture

NETWORKS = ("text_encoder", "transformer", "vae_decoder")
PERCENTILES = tuple(f"latency_p{percent}_ms" for percent in (50, 90, 99))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copy_bundle(shared_bundle(tmp_path.parent, "onnx-int8", steps=(1, 2, 4), validate=False), tmp_path / "bündle")


def measure(bundle: Path, out: Path, *arguments: object) -> dict[str, Any]:
    done = draw_picture(bundle, *arguments, "-o", out)
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-1] == str(out)
    found: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return found


def test_a_result_is_joined_with_pythons(bundle: Path, tmp_path: Path) -> None:
    measure(bundle, tmp_path / "cpp.json", "--check", "--bench", "--runs", 20, "--warm-up", 1, "--label", "Fenster-Büchse")
    python = validate_against_reference(bundle)
    (tmp_path / "python.json").write_text(format_result(python), "utf-8")
    merged = merge_results(bundle, [tmp_path / "cpp.json", tmp_path / "python.json"], ["latency_p50_ms<=60000"])
    cpp, own = merged.results
    assert (cpp.label, cpp.identity, cpp.provider) == ("Fenster-Büchse", own.identity, "cpu")
    assert cpp.report.runtime == f"{own.report.runtime}, C++" and cpp.report.target == own.report.target == "onnx-int8"
    assert merged.verdict == "met"
    verdicts = {(row.metric, row.component): row.verdict for row in cpp.report.rows if row.verdict}
    gated = {("reference_psnr_worst_db", ""), ("reference_other_inputs", "")}
    assert verdicts == dict.fromkeys(gated | {("latency_p50_ms", each) for each in (*NETWORKS, "whole picture")}, "met")
    page = write_merged(merged, tmp_path / "devices")[1].read_text("utf-8")
    assert "Fenster-Büchse" in page and "differs from" in page


def test_every_figure_is_named_and_told_as_python_tells_it(bundle: Path, tmp_path: Path) -> None:
    measure(bundle, tmp_path / "cpp.json", "--check", "--bench", "--runs", 8)
    found, own = read_result(tmp_path / "cpp.json"), validate_against_reference(bundle, runs=8)
    figures = {(row.metric, row.component) for row in found.report.rows}
    assert figures == {(row.metric, row.component) for row in own.report.rows}
    assert len(found.checks) == len(own.checks) == 3 + 8, "further prompts too"
    for mine, theirs in zip(found.checks, own.checks, strict=True):
        assert (mine.prompt, mine.seed, mine.steps, mine.before) == (theirs.prompt, theirs.seed, theirs.steps, theirs.before)
        assert [(stage.network, stage.step) for stage in mine.stages] == [(stage.network, stage.step) for stage in theirs.stages]
    assert found.bench is not None and found.bench.device
    assert (found.bench.runs, found.bench.protocol, len(found.bench.cold_starts)) == (8, "own", 1)
    rows = {(row.metric, row.component): row.value for row in found.report.rows}
    assert rows["latency_p50_ms", "whole picture"] >= rows["latency_p50_ms", "transformer"] > 0
    assert rows["cold_start_ms", "whole picture"] >= rows["open_ms", "whole picture"] + rows["first_picture_ms", "whole picture"]
    assert 20 < rows["peak_memory_mb", "whole picture"] < 4000
    assert found.report.machine == own.report.machine


def test_a_bench_alone_and_a_check_alone_are_results_too(bundle: Path, tmp_path: Path) -> None:
    timed = measure(bundle, tmp_path / "bench.json", "--bench", "--runs", 3, "--warm-up", 0, "--threads", 1)
    assert timed["checks"] == [] and timed["bench"]["runs"] == 3 and timed["prompts"] == 3
    assert {row["metric"] for row in timed["rows"]} >= {*PERCENTILES, "cold_start_ms", "peak_memory_mb"}
    compared = measure(bundle, tmp_path / "check.json", "--check")
    assert compared["bench"] is None and len(compared["pictures"]) == 11
    merged = merge_results(bundle, [tmp_path / "bench.json", tmp_path / "check.json"])
    assert [result.label for result in merged.results] == [f"{timed['machine']} (1)", f"{timed['machine']} (2)"]


@pytest.mark.parametrize("place", [0, 5])
def test_what_differs_is_in_the_result(bundle: Path, place: int, tmp_path: Path) -> None:
    """Of the first prompt and of a further one: another picture, another output of a network."""
    file = bundle / "reference" / "reference.json"
    said = json.loads(file.read_text("utf-8"))
    said["further" if place >= 3 else "drawings"][place % 3]["stages"][0]["outputs"]["prompt_embeds"].update(
        sha256="0" * 64, first=[1e3] * 8
    )
    sign(bundle, said)
    measure(bundle, tmp_path / "a.json", "--check")
    found, own = read_result(tmp_path / "a.json"), validate_against_reference(bundle)
    for mine, theirs in zip(found.checks, own.checks, strict=True):
        if not theirs.begins:
            continue
        assert (mine.begins, mine.stages[0].is_same) == (theirs.begins, False)
        assert math.isclose(mine.stages[0].error, theirs.stages[0].error, rel_tol=0.01)
    assert sum(bool(check.begins) for check in found.checks) >= 1


def sign(bundle: Path, reference: Any) -> None:
    """A reference that the manifest names."""
    import hashlib

    data = json.dumps(reference).encode()
    (bundle / "reference" / "reference.json").write_bytes(data)

    def change(manifest: dict[str, Any]) -> None:
        [entry] = [each for each in manifest["artifacts"] if each["path"] == "reference/reference.json"]
        entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))

    edit_manifest(bundle, change)


def test_the_identity_is_pythons(bundle: Path) -> None:
    """Engines and app.json have no part in it; a name beyond ASCII has."""
    changes: list[Callable[[Any], object]] = [
        lambda value: None,
        lambda value: value.update(key="kü"),
        lambda value: value["artifacts"].append(
            value["artifacts"][0] | {"path": "zü/é\u200b.txt", "device": None, "kind": "text"}
        ),
        lambda value: value["artifacts"].append(
            value["artifacts"][0] | {"path": "engine", "device": "rtx-4090", "kind": "engine"}
        ),
        lambda value: value["artifacts"].reverse(),
    ]
    whole = json.loads((bundle / "bundle.json").read_text("utf-8"))
    texts = []
    for change in changes:
        value = json.loads(json.dumps(whole))
        change(value)
        texts.append(json.dumps(value))
    found = ask_probe("manifests", {"folder": str(bundle), "texts": texts})
    assert found[0] == found[3] == found[4] == read_bundle(shared_original(bundle), verify=False).identity
    assert len(set(found)) == 3 and all(len(each) == 64 for each in found)


def shared_original(bundle: Path) -> Path:
    """The bundle that was copied: the copy's manifest was written over."""
    return shared_bundle(bundle.parent.parent, "onnx-int8", steps=(1, 2, 4), validate=False)


def test_quantiles_and_intervals_are_pythons() -> None:
    draw = np.random.default_rng(8)
    runs = [np.exp(draw.normal(3, 0.2, count)).tolist() for count in (1, 2, 5, 6, 9, 12, 13, 20, 41, 100, 500)]
    for values, rows in zip(runs, ask_probe("quantiles", runs), strict=True):
        for share, (value, interval, needed) in zip((0.5, 0.9, 0.99), rows, strict=True):
            wanted = bound_median(values) if share == 0.5 else bound_quantile(values, share)
            assert value == pytest.approx(find_quantile(values, share), rel=1e-12)
            assert interval == (None if wanted is None else pytest.approx(list(wanted), rel=1e-12))
            assert needed == count_needed(share)


def test_a_result_of_another_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = shared_bundle(tmp_path.parent, "onnx-fp32", steps=(1, 2, 4), validate=False)
    measure(other, tmp_path / "other.json", "--bench", "--runs", 1, "--warm-up", 0)
    with pytest.raises(InputError, match="is of another bundle"):
        merge_results(bundle, [tmp_path / "other.json"])


def test_a_result_that_cannot_be_told_is_refused_in_one_line(bundle: Path, tmp_path: Path) -> None:
    def refuse(said: str, *arguments: object, status: int = 2) -> None:
        done = draw_picture(bundle, *arguments)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and said in done.stderr, done

    out = ("-o", tmp_path / "a.json")
    refuse("-o x.png: use a name that ends in .json", "--check", "-o", "x.png")
    refuse("does not exist", "--bench", "-o", tmp_path / "none" / "a.json")
    refuse("--label goes with --check; see: sprint-draw --help", "a red circle", "--label", "x")
    refuse("--runs goes with --bench", "--check", "--runs", 3)
    refuse("--seed goes with a prompt", "--check", "--seed", 3)
    refuse("--runs 0: expected a whole number from 1", "--bench", "--runs", 0)
    refuse("--tolerance 256: expected a whole number from 0 to 255", "--check", "--tolerance", 256)
    refuse("label: found 201 letters, expected at most 200", "--bench", "--runs", 1, "--label", "é" * 201, *out)
    app = (bundle / "app.json").read_bytes()
    (bundle / "app.json").write_bytes(app + b"\n")
    refuse("app.json is not the one that bundle.json names", "--check", *out)
    (bundle / "app.json").write_bytes(app)
    reference = bundle / "reference" / "reference.json"
    reference.write_bytes(reference.read_bytes() + b"\n")
    refuse("reference/reference.json is not the one that bundle.json names", "--check", *out)
    (bundle / "bundle.json").unlink()
    refuse("has no bundle.json, which says what bundle a result is of", "--bench", "--runs", 1, *out)
    assert not (tmp_path / "a.json").exists() and not list(tmp_path.glob("*.part"))


def test_help_is_said_and_a_wrong_picture_is_status_1(bundle: Path, tmp_path: Path) -> None:
    done = draw_picture("--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: sprint-draw BUNDLE PROMPT") and done.stderr == ""
    reference = bundle / "reference" / "reference.json"
    said = json.loads(reference.read_text("utf-8"))
    said["further"][0]["ids"][0] += 1
    sign(bundle, said)
    done = draw_picture(bundle, "--check", "-o", tmp_path / "a.json")
    assert done.returncode == 1 and "from ids on: DIFFERENT" in done.stdout and (tmp_path / "a.json").exists()
    merged = merge_results(bundle, [tmp_path / "a.json"])
    assert merged.verdict == "not met"
    assert draw_picture(bundle, "--check").returncode == 0, "the further prompts are a result's alone"
