"""What a bundle is timed against: names, PyTorch's side against its reference, another bundle in turn, LoadGen asking."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.compute import CPU
from sprint_export.errors import InputError, MachineError
from sprint_export.export.bundle import read_bundle
from sprint_export.noise import make_noise
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, load_family
from sprint_export.validate.latency import bench_bundle
from sprint_export.validate.latency.loadgen import describe_stream, run_single_stream
from sprint_export.validate.latency.opponents import Opponent, read_opponent
from sprint_export.validate.latency.request import BenchRequest
from sprint_export.validate.latency.results import describe_bench
from sprint_export.validate.latency.table import describe_conditions, render_bench
from sprint_export.validate.latency.torch_side import open_torch
from tests.bundles import shared_bundle

QUICKLY: dict[str, Any] = {"runs": 2, "warm_up": 1, "cold_starts": 0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")


def test_names_are_pytorch_with_a_type_or_the_folder_of_a_bundle(bundle: Path) -> None:
    assert read_opponent("pytorch") == Opponent("pytorch", False, "fp32")
    assert read_opponent("pytorch-compile:bf16") == Opponent("pytorch-compile:bf16", True, "bf16")
    assert read_opponent(str(bundle)).folder == bundle
    with pytest.raises(InputError, match="unknown type in --against pytorch:fp8: 'fp8'; choose from: bf16, fp16, fp32"):
        read_opponent("pytorch:fp8")
    with pytest.raises(InputError, match="--against torch: expected pytorch, pytorch-compile, either with :fp32, :bf16, :fp16"):
        read_opponent("torch")


@pytest.mark.parametrize(("name", "steps"), [("sprint-tiny", 1), ("sprint-tiny", 2), ("twinflow-tiny", 2)])
def test_the_whole_stock_pipeline_draws_what_the_reference_does(name: str, steps: int) -> None:
    student = load_student(name)
    family, plan = load_family(student.family), specialize_student(student, steps).plan
    assert plan is not None
    prompts, noise = list(student.validation_prompts[:2]), make_noise(0, steps, 2, student.latent_shape)
    wanted = family.draw_reference(student, Draws(prompts, noise, plan.guidance)).pictures
    stock = family.open_whole(student, plan, "cpu", "float32")
    for _ in range(2):  # as often as it is asked
        assert np.abs(stock.draw(prompts, noise).astype(int) - wanted).max() <= 1
    assert set(stock.networks) == {"text_encoder", "transformer", "vae_decoder"}
    half = family.open_whole(student, plan, "cpu", "bfloat16").draw(prompts, noise)
    assert 0 < np.abs(half.astype(int) - wanted).mean() < 3


def test_pytorch_and_another_bundle_draw_in_turn_and_gates_are_the_bundles_own(bundle: Path) -> None:
    gates = ["latency_p50_ms<=1e9", "speedup>=0"]
    bench = bench_bundle(bundle, **QUICKLY, against=["pytorch", str(bundle)], gates=gates)
    rows = {(row.component, row.metric): row for row in bench.report.rows}
    assert bench.report.passed
    for name in ("text_encoder", "transformer", "vae_decoder", "whole picture"):
        assert rows[name, "latency_p50_ms"].verdict == "met"
        for other in ("pytorch", str(bundle)):
            assert rows[f"{other}: {name}", "other_latency_p50_ms"].value > 0
            assert rows[f"{other}: {name}", "other_latency_p50_ms"].verdict is None
    for other in ("pytorch", str(bundle)):
        assert rows[other, "speedup"].verdict == "met"
        assert rows[other, "speedup"].note.startswith(f"{other} takes so many times as long: median of 1 blocks")
    value = json.loads(json.dumps(describe_bench(bench), allow_nan=False))
    assert [each["label"] for each in value["bench"]["others"]] == ["pytorch", str(bundle)]
    assert "float32, eager" in value["bench"]["others"][0]["runtime"]
    assert [table.row_count for table in render_bench(bench)] == [12, 2]
    assert any(line.startswith("pytorch: PyTorch ") for line in describe_conditions(bench.conditions))


def test_several_pictures_at_once_draw_in_turn(bundle: Path) -> None:
    bench = bench_bundle(bundle, **QUICKLY, batches=(1, 3))
    rows = {(row.component, row.metric): row for row in bench.report.rows}
    row = rows["3 at once: whole picture", "other_latency_p50_ms"]
    assert row.note.startswith("a picture, of 3 drawn at once; of 2 drawings")
    assert ("3 at once: transformer", "other_latency_p50_ms") not in rows
    assert not any(metric == "speedup" for _, metric in rows)


def test_mlperf_clients_protocol_is_one_drawing_and_four(bundle: Path) -> None:
    bench = bench_bundle(bundle, protocol="mlperf-client", cold_starts=0)
    assert (bench.conditions.protocol, bench.conditions.warm_up, bench.conditions.runs) == ("mlperf-client", 1, 4)
    mean = next(row for row in bench.report.rows if row.metric == "latency_mean_ms")
    assert mean.note.startswith("mean of 4 drawings")


def test_loadgen_asks_for_pictures_and_gives_its_estimate(bundle: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen has no wheel for every system")
    bench = bench_bundle(bundle, protocol="mlperf-single-stream", minutes=1e-4, cold_starts=0)
    rows = {row.metric: row for row in bench.report.rows if row.component == "whole picture"}
    assert bench.conditions.runs >= 64
    assert rows["latency_p90_early_stopping_ms"].value >= rows["latency_mean_ms"].value * 0.5
    assert f"{bench.conditions.runs} queries, valid by LoadGen's rules" in rows["latency_mean_ms"].note


def test_loadgen_that_is_not_there_is_said_before_the_bundle_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MachineError, match="mlperf_loadgen is not installed; run: pip install"):
        bench_bundle(tmp_path, protocol="mlperf-single-stream")


def test_what_drawing_raises_ends_loadgens_run() -> None:
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen has no wheel for every system")

    def draw(seed: int) -> None:
        raise MachineError("not enough memory")

    with pytest.raises(MachineError, match="not enough memory"):
        run_single_stream(draw, minutes=1e-4)


def test_fewer_queries_than_early_stopping_takes_are_said() -> None:
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen has no wheel for every system")
    seeds: list[int] = []
    result = run_single_stream(seeds.append, minutes=1e-5, queries=10)
    assert result.queries == len(seeds) >= 10
    assert result.p90_ms < 1000
    rows = describe_stream(result)
    assert rows[0].note.startswith(f"LoadGen 6.0.17, single stream, {result.queries} queries")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"protocol": "mlperf"}, "unknown protocol 'mlperf'; choose from: mlperf-client, mlperf-single-stream, own"),
        ({"protocol": "mlperf-client", "runs": 5}, "protocol mlperf-client is 1 drawing to warm up and 4 that count; leave runs"),
        ({"protocol": "mlperf-single-stream", "against": ["pytorch"]}, "asks one side for its pictures; leave against out"),
        ({"batches": (1, 2), "against": ["pytorch"]}, r"batches=\[1, 2\]: several go with no protocol and no other side"),
        ({"batches": (0,)}, "batches: 0 pictures at once: expected 1 to 64"),
        ({"batches": (2, 2)}, r"batches=\[2, 2\]: expected each once"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BenchRequest(**asked)


def test_another_student_is_refused(bundle: Path) -> None:
    opened = read_bundle(bundle)
    with pytest.raises(InputError, match=r"--against pytorch: the student is not the one that .* give the right one"):
        open_torch(opened, load_student("twinflow-tiny"), read_opponent("pytorch"), CPU)


def test_every_side_and_fresh_processes_take_the_threads_that_are_asked_for(bundle: Path) -> None:
    before = torch.get_num_threads()
    bench = bench_bundle(bundle, runs=1, warm_up=0, cold_starts=1, against=["pytorch", str(bundle)], threads=3)
    assert bench.conditions.asked_threads == 3
    assert describe_bench(bench)["bench"]["asked_threads"] == 3
    assert any("3 for each network (--threads), " in line for line in describe_conditions(bench.conditions))
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="threads=0: expected 1 to 1024"):
        BenchRequest(threads=0)


def test_torch_draws_with_the_threads_that_are_asked_for(bundle: Path) -> None:
    opened = read_bundle(bundle)
    side = open_torch(opened, load_student("sprint-tiny"), read_opponent("pytorch"), CPU, threads=3)
    seen: list[int] = []
    side.stock.networks["transformer"].register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    side.draw(0)
    assert set(seen) == {3}
