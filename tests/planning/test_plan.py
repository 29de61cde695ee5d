"""Plans of sprint-tiny and of its bundles: what fits, what dominates, what would help, measured beside priced, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sprint_export.cli.app import app
from sprint_export.devices import find_device
from sprint_export.errors import InputError, SprintExportError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.parts import NO_PARTS
from sprint_export.planning import asking
from sprint_export.planning.advice import advise
from sprint_export.planning.asking import Wanted, find_devices, fit_measured, load_subject, plan_devices
from sprint_export.planning.measured import Measured, read_measured
from sprint_export.planning.networks import BundleSubject, NetworkWork, StudentSubject
from sprint_export.planning.plan import Answer, Question, list_deployments, plan_deployment, plan_device
from sprint_export.planning.prices import REACHED, Prices
from sprint_export.planning.tables import describe_answer, tabulate_answer
from sprint_export.progress import quiet
from sprint_export.registry import load_target
from tests.bundles import run_command, shared_bundle


@pytest.fixture(scope="module")
def subject() -> StudentSubject:
    return load_subject(Wanted("sprint-tiny", steps=2), NO_PARTS)


def ask(subject: StudentSubject, device: str, *targets: str, measured: tuple[Measured, ...] = ()) -> Answer:
    chosen = find_device(device)
    return plan_device(subject, chosen, list_deployments(chosen, targets), Question((chosen,), targets, measured))


def test_all_pairs_of_a_card_are_priced_and_the_fastest_is_looked_at(subject: StudentSubject) -> None:
    answer = ask(subject, "rtx-4090")
    names = {answer.chosen.name, *(each.name for each in answer.others)}
    assert {"trt-fp8", "trt-int8", "trt-bf16", "gpu-int8", "onnx-fp16"} <= names
    assert "onnx-int8" not in names, "a form for CPUs"
    priced = [each.reached_ms for each in answer.others if each.reached_ms is not None]
    assert answer.chosen.reached_ms is not None
    faster = [each for each in answer.others if each.reached_ms is not None and each.reached_ms < answer.chosen.reached_ms]
    assert all(each.name.endswith("w4a16") for each in faster), "fewer bits than 8 are not taken unasked"
    assert priced == sorted(priced)
    assert answer.chosen.peak_ms == pytest.approx(answer.chosen.reached_ms * REACHED)


def test_a_network_of_the_loop_counts_once_for_each_step(subject: StudentSubject) -> None:
    times = {each.work.role: each.work.times for each in ask(subject, "rtx-4090", "trt-bf16").chosen.networks}
    assert times == {"text_encoder": 1, "transformer": 2, "vae_decoder": 1}


def test_dominating_layers_name_the_network_and_their_shares_are_of_the_whole(subject: StudentSubject) -> None:
    answer = ask(subject, "h200", "gpu-fp8")
    assert all(each.name.partition(":")[0] in ("text_encoder", "transformer", "vae_decoder") for each in answer.dominating)
    assert answer.chosen.reached_ms is not None
    first = answer.dominating[0]
    assert first.share == pytest.approx(first.milliseconds / answer.chosen.reached_ms)
    assert any("*" in each.name and each.count > 1 for each in answer.dominating), "equal layers are one row"


def test_what_nobody_publishes_is_no_price(subject: StudentSubject) -> None:
    phone, cpu = ask(subject, "iphone-16", "coreml-int8"), ask(subject, "cpu", "onnx-int8")
    assert phone.chosen.reached_ms is None is cpu.chosen.reached_ms
    assert any("Apple publishes none" in note for note in phone.chosen.notes)
    least = ask(subject, "iphone-17-pro", "coreml-int8").chosen
    assert least.is_least
    assert any("least ones: no 16-bit rate of the neural-engine" in note for note in least.notes)
    assert ">= " in "\n".join(describe_answer(ask(subject, "iphone-17-pro", "coreml-int8"), ()))


def test_whether_it_fits_follows_what_an_app_may_hold(subject: StudentSubject) -> None:
    answer = ask(subject, "ipad-m4", "coreml-fp16")
    plan = answer.chosen
    assert plan.room == 3_000_000_000
    assert "fits: an app may hold 3.00 GB" in "\n".join(describe_answer(answer, ()))
    small = replace(plan, deployment=replace(plan.deployment, device=replace(plan.device, app_gb=plan.memory / 1e9 - 1e-6)))
    assert small.memory_apart < (small.room or 0) < small.memory
    assert "fits one network at a time" in "\n".join(describe_answer(replace(answer, chosen=small), ()))
    assert any(each.change == "one network in memory at a time" for each in advise(small, (), 1))
    (w4,) = (each for each in answer.others if each.name == "coreml-w4")
    assert advise(small, [w4], 1)[0].makes_fit, "what fits comes first"


def test_advice_is_what_other_pairs_and_fewer_steps_gain(subject: StudentSubject) -> None:
    card = find_device("core-ultra-7-258v")
    slow, fast = (
        plan_deployment(subject, list_deployments(card, [name])[0], Question((card,)))
        for name in ("openvino-fp16", "openvino-int8")
    )
    found = {each.change: each for each in advise(slow, [fast], 2)}
    assert slow.reached_ms is not None
    assert fast.reached_ms is not None
    assert found["openvino-int8"].saves_ms == pytest.approx(slow.reached_ms - fast.reached_ms)
    assert found["openvino-int8"].saves_mb == pytest.approx((slow.memory - fast.memory) / 1e6)
    once = next(each for each in slow.networks if each.work.times == 2)
    assert once.reached is not None
    assert found["--steps 1"].saves_ms == pytest.approx(once.reached.milliseconds / 2)
    lighter = advise(slow, (), 2, decoder=fast)
    assert next(each for each in lighter if each.change == "the decoder of --decoder").saves_ms == found["openvino-int8"].saves_ms


def measured_file(path: Path, target: str, device: str, medians: dict[str, float], bundle: str = "somewhere") -> Path:
    rows = [{"metric": "latency_p50_ms", "component": role, "value": value} for role, value in medians.items()]
    rows.append({"metric": "device_memory_mb", "component": "", "value": 900.0})
    path.write_text(json.dumps({"bundle": bundle, "target": target, "rows": rows, "bench": {"device": device}}))
    return path


def test_what_was_measured_stands_beside_the_price_with_the_ratio(subject: StudentSubject, tmp_path: Path) -> None:
    names = {"text_encoder": 1.0, "transformer": 4.0, "vae_decoder": 2.0, "whole picture": 7.5}
    measured = read_measured(measured_file(tmp_path / "b.json", "gpu-fp8", "NVIDIA H200", names))
    answer = ask(subject, "h200", "gpu-fp8", measured=(measured,))
    assert [each.measured_ms for each in answer.chosen.networks] == [1.0, 4.0, 2.0]
    assert answer.chosen.reached_ms is not None
    text = "\n".join(describe_answer(answer, ()))
    assert f"7.50 ms{7.5 / answer.chosen.reached_ms:12.2f}" in text
    assert f"measured: 900 MB; measured / planned {900e6 / answer.chosen.memory:.2f}" in text
    data = json.loads(json.dumps(tabulate_answer(answer, ()), allow_nan=False))
    assert data["measured"] == {"picture_ms": 7.5, "memory_mb": 900.0}
    assert data["networks"][1]["priced"]["at_peaks"]["ms"] > 0


def test_what_was_given_and_is_of_something_else_is_said(subject: StudentSubject, tmp_path: Path) -> None:
    measured = read_measured(measured_file(tmp_path / "b.json", "trt-fp8", "NVIDIA H200", {"transformer": 1.0}))
    prices = Prices("rtx-4070", "gpu", {"16-bit": 50.0, "int8": 200.0}, 400.0, 2.0, "made")
    card = find_device("rtx-4090")
    notes = plan_deployment(subject, list_deployments(card, ["trt-fp8"])[0], Question((card,), (), (measured,), prices)).notes
    assert "the price list was fitted to rtx-4070, another device" in notes
    assert any("b.json: not beside the prices, for it is of trt-fp8 on NVIDIA H200" in note for note in notes)
    cpu = find_device("cpu")
    notes = plan_deployment(subject, list_deployments(cpu, ["onnx-int8"])[0], Question((cpu,), (), (), prices)).notes
    assert "the price list is of rtx-4070's gpu and not used: onnx-int8 runs on the cpu here" in notes


@pytest.mark.parametrize(
    ("said", "device", "fits"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx-4090", True),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx-4090", False),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx-4090-laptop", True),
        ("NVIDIA GeForce RTX 4080", "rtx-4090", False),
        ("NVIDIA H200", "h200", True),
        ("", "h200", True),
        ("AMD EPYC", "cpu", True),
    ],
)
def test_a_measurement_is_of_the_device_that_it_names(said: str, device: str, fits: bool) -> None:
    assert Measured(Path(), "", "", said, {}, {}).fits(find_device(device)) is fits


FREE = json.dumps({"bundle": "a", "target": "b", "rows": [{"component": "c", "metric": "latency_p50_ms", "value": 5e-324}]})


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"rows": 3}', '{"bundle": "a", "target": "b", "rows": []}', '{"rows": [{"value": NaN}]}', FREE]
)
def test_what_is_no_bench_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "no.json").write_text(text)
    with pytest.raises(InputError, match=r"no\.json: expected"):
        read_measured(path)


def test_a_bundle_is_priced_by_its_graph_as_its_student_is_by_its_operators(tmp_path_factory: pytest.TempPathFactory) -> None:
    from sprint_export.export.bundle import read_bundle

    bundle = read_bundle(shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8"))
    deployment = Deployment(load_target("onnx"), "int8", find_device("cpu"), bundle.options)
    graphs = BundleSubject(bundle).list_networks(deployment, {"int8", "fp32"})
    student = load_subject(Wanted("sprint-tiny"), NO_PARTS).list_networks(deployment, {"int8", "fp32"})
    for graph, counted in zip(graphs, student, strict=True):
        assert graph.role == counted.role
        assert _flop(graph, "int8") == pytest.approx(_flop(counted, "int8"), rel=0.1)
        assert _flop(graph) == pytest.approx(_flop(counted), rel=0.1)


def test_a_bundle_of_another_format_is_counted_by_its_student_and_its_own_layers(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("coremltools")
    folder = str(shared_bundle(tmp_path_factory.getbasetemp(), "coreml-int8"))
    question = Question((find_device("iphone-15-pro"),))
    ((answer, _),) = plan_devices(Wanted(folder), question)
    assert all(each.work.origin.endswith("of its student, sprint-tiny") for each in answer.chosen.networks)
    (of_student,) = load_subject(Wanted("sprint-tiny"), NO_PARTS).list_networks(answer.chosen.deployment, {"16-bit"})[1:2]
    assert _flop(answer.chosen.networks[1].work) == _flop(of_student)
    monkeypatch.setattr(asking, "find_loader", lambda bundle, progress: None)
    ((alone, _),) = plan_devices(Wanted(folder), question)
    assert alone.chosen.reached_ms is None
    assert any("plan its student, sprint-tiny" in note for note in alone.chosen.notes)


def _flop(network: NetworkWork, dtype: str | None = None) -> float:
    return sum(work.flop for work in network.kernels or () if dtype in (None, work.dtype))


def test_an_engine_s_kernel_table_costs_what_its_report_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("tensorrt_rtx")
    from sprint_export.export.bundle import read_bundle
    from sprint_export.runtimes.trt.rows import summarize_kernels

    bundle = read_bundle(shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8"))
    rows = {row.component: row.value for row in summarize_kernels(bundle) if row.metric == "priced_ms"}
    ((answer, _),) = plan_devices(Wanted(str(bundle.folder)), Question((find_device("rtx-4090"),)))
    for network in answer.chosen.networks:
        assert network.work.origin == "the builder's kernel table"
        assert network.peak is not None
        assert network.peak.milliseconds == pytest.approx(rows[network.work.role])
    ((other, _),) = plan_devices(Wanted(str(bundle.folder)), Question((find_device("rtx-4060-laptop"),)))
    assert other.chosen.peak_ms is not None
    assert other.chosen.peak_ms > (answer.chosen.peak_ms or 0), "the same kernels on a smaller card"


def test_a_bundle_s_measurements_fit_a_price_list(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    folder = shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")
    medians = {"text_encoder": 2.0, "transformer": 3.0, "vae_decoder": 1.0}
    path = measured_file(tmp_path / "b.json", "onnx-int8", "", medians, str(folder))
    fit = fit_measured(None, [read_measured(path)], None, quiet, lambda text: pytest.fail(text))
    assert (fit.prices.device, fit.prices.unit) == ("cpu", "cpu")
    assert [each.measured_ms for each in fit.residuals] == [2.0, 3.0, 1.0]
    assert all(each.left_out_ms is not None for each in fit.residuals)
    lost = replace(read_measured(path), bundle=str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"its bundle .* is not there; name it or its student"):
        fit_measured(None, [lost], None, quiet, lambda text: None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "STUDENT|BUNDLE is missing"),
        (("sprint-tiny",), "--device is missing"),
        (("sprint-tiny", "--device", "gtx"), "unknown device 'gtx'"),
        (("sprint-tiny", "--device", ""), "unknown device ''"),
        (("sprint-tiny", "--device", "cpu", "--target", ""), "unknown target ''"),
        (("sprint-tiny", "--device", "rtx-4090,rtx-4090"), "expected each device once"),
        (("sprint-tiny", "--device", "rtx-3090", "--target", "trt-fp8"), "FP8 needs compute capability 8.9"),
        (("sprint-tiny", "--device", "rtx-3090", "--target", "trt-fp7"), "unknown target 'trt-fp7'"),
        (("sprint-tiny", "--device", "cpu", "--save", "x"), "expected --fit FILE beside it"),
        (("--fit", "none.json", "--save", "."), "is a folder; expected the name of a file"),
        (("--fit", "none.json", "--target", "onnx-int8"), "expected no --target beside it"),
        (("--fit", "none.json"), "none.json"),
        (("no-such-student", "--device", "cpu"), "no-such-student"),
    ],
)
def test_mistakes_are_said_with_the_choices(
    arguments: tuple[object, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert isinstance(result.exception, SprintExportError), result.output
    assert said in str(result.exception)


def test_the_command_prints_a_plan_for_each_device_as_json(tmp_path: Path) -> None:
    done = run_command("plan", "sprint-tiny", "--device", "rtx-4070-laptop,iphone-17-pro", "--json", "-q", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)
    assert (first["device"], second["device"]) == ("rtx-4070-laptop", "iphone-17-pro")
    assert first["figures"]["gpu int8"]["by"] == "derived"
    assert first["priced"]["expected_ms"] > first["priced"]["at_peaks_ms"] > 0
    assert first["measured"] == {"picture_ms": None, "memory_mb": None}
    assert first["fits"] is True
    assert second["priced"]["is_least"] is True
    assert list(tmp_path.iterdir()) == [], "a plan writes nothing"


def test_engines_that_are_built_replace_what_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    question = Question((find_device("rtx-4090"),), ("trt-fp8",))
    ((answer, _),) = plan_devices(Wanted("sprint-tiny", builds=True), question)
    assert {each.work.origin for each in answer.chosen.networks} == {"the builder's kernel table"}
    ((counted, _),) = plan_devices(Wanted("sprint-tiny"), question)
    for built, guessed in zip(answer.chosen.networks, counted.chosen.networks, strict=True):
        assert built.work.kernels != guessed.work.kernels
        assert _flop(built.work) == pytest.approx(_flop(guessed.work), rel=0.35), (
            "the builder counts sums and merged products too"
        )
    assert list(tmp_path.iterdir()) == [], "engines are removed again"


@pytest.mark.parametrize(
    ("targets", "said"), [((), "expected --target beside it"), (("onnx-int8",), "onnx builds no engines; those that do: trt")]
)
def test_what_cannot_be_built_is_refused_before_a_student_is_loaded(targets: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan_devices(Wanted("sprint-tiny", builds=True), Question((find_device("cpu"),), targets))


def test_another_decoder_is_priced_beside_the_own(tmp_path: Path) -> None:
    ((_, advices),) = plan_devices(Wanted("sprint-tiny", decoder="sprint-tiny"), Question((find_device("h200"),), ("gpu-fp8",)))
    same = next(each for each in advices if each.change == "the decoder of --decoder")
    assert same.saves_ms == pytest.approx(0)
    assert same.saves_mb == pytest.approx(0)


def test_pictures_that_a_run_makes_at_once_share_its_price(subject: StudentSubject) -> None:
    (deployment,) = list_deployments(find_device("h200"), ["gpu-fp8"])[:1]

    class Several:
        def list_networks(self, deployment: Deployment, kinds: Collection[str]) -> list[NetworkWork]:
            return [replace(each, pictures=4) for each in subject.list_networks(deployment, kinds)]

    question = Question((deployment.device,))
    one, four = (plan_deployment(each, deployment, question).reached_ms for each in (subject, Several()))
    assert one is not None
    assert four == pytest.approx(one / 4)


def test_a_bundle_is_planned_without_torch(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8"))
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'diffusers', 'safetensors'): sys.modules[name] = None\n"
        f"sys.argv = ['sprint-export', 'plan', {folder!r}, '--device', 'h200,cpu', '-q']\n"
        "from sprint_export.cli.entry import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "counted in the ONNX graph" in done.stdout
    assert "no memory of h200's cpu is in the device table" in done.stdout, "a card's memory is not its processor's"


def test_options_of_a_student_are_refused_for_a_bundle(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8"))
    for wanted in (Wanted(folder, steps=2), Wanted(folder, prompt_tokens=20), Wanted(folder, builds=True)):
        with pytest.raises(InputError, match="is a student's"):
            plan_devices(wanted, Question((find_device("cpu"),)))
    with pytest.raises(InputError, match="is onnx-int8; plan its student for another: sprint-tiny"):
        plan_devices(Wanted(folder), Question((find_device("cpu"),), ("onnx-fp16",)))


def test_devices_are_found_by_name() -> None:
    assert [device.name for device in find_devices("h200, rtx-4090")] == ["h200", "rtx-4090"]
