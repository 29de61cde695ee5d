"""What of examples/apple can be held against the Python package where there is no Swift: names, literals, no constants."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.apple.make_reference import MIN_PSNR_DB, make_reference
from sprint_export.errors import InputError
from sprint_export.executor import make_executor
from sprint_export.export.bundle import FORMAT, HASH, hash_file, read_bundle
from sprint_export.json_forms import from_json
from sprint_export.nouns.bundle import Artifact, Bundle, ComponentRecord, Part
from sprint_export.nouns.student import PromptPlan, StepPlan, TensorSpec
from sprint_export.prompt_reader import PromptReader
from sprint_export.runtimes.coreml.runtime import UNITS
from sprint_export.runtimes.coreml.target import TARGET
from sprint_export.sampler import sample
from sprint_export.session import Pipeline, to_uint8
from sprint_export.strict_json import hash_json
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.times import trigflow_times
from tests.tree import ROOT

APPLE = ROOT / "examples" / "apple"
FIXTURE = APPLE / "Tests" / "SprintDrawTests" / "Fixture"
SOURCES = {path.name: path.read_text("utf-8") for path in sorted((APPLE / "Sources").rglob("*.swift"))}
SWIFT_NAMES: dict[str, type] = {
    "Manifest": Bundle,
    "StepPlan": StepPlan,
    "PromptPlan": PromptPlan,
    "TensorSpec": TensorSpec,
    "Part": Part,
    "Component": ComponentRecord,
    "Artifact": Artifact,
}
# Swift type -> the annotations of nouns it can decode; Core ML shapes are fixed, so they hold integers only.
SWIFT_TYPES = {
    "Int": {"int"},
    "Bool": {"bool"},
    "String": {"str"},
    "String?": {"str | None"},
    "[Int]": {"tuple[int | str, ...]", "tuple[int, ...]"},
    "[Int]?": {"tuple[int, ...]"},
    "[Double]": {"tuple[float, ...]"},
    "Options": {"Options"},
    "StepPlan": {"StepPlan"},
    "PromptPlan": {"PromptPlan"},
    "[TensorSpec]": {"tuple[TensorSpec, ...]"},
    "[Part]": {"tuple[Part, ...]"},
    "[Component]": {"tuple[ComponentRecord, ...]"},
    "[Artifact]": {"tuple[Artifact, ...]"},
}


def decoded_fields(source: str) -> dict[str, dict[str, str]]:
    """Struct -> its stored properties -> Swift type, for every public Decodable struct."""
    structs = re.findall(r"^public struct (\w+): Decodable[^{]*\{\n(.*?)^\}", source, re.MULTILINE | re.DOTALL)
    return {name: dict(re.findall(r"public let (\w+): (\S+)", body)) for name, body in structs}


def camel(name: str) -> str:
    """What JSONDecoder's convertFromSnakeCase makes of a name: pad_id -> padId, never padID."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def literals() -> dict[str, Any]:
    """The values of Literals.swift by name; what Swift writes there is Python too."""
    text = (APPLE / "Tests" / "SprintDrawTests" / "Literals.swift").read_text("utf-8")
    found = re.findall(r"static let (\w+): \S+ = (\[.*?\]|\".*?\")$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("static let")
    return {name: ast.literal_eval(value) for name, value in found}


@pytest.fixture
def fixture_bundle(tmp_path: Path) -> Bundle:
    """The Swift tests' bundle, as Python reads it; its weights are not there, so only the manifest and tokenizer are read."""
    value = json.loads((FIXTURE / "bundle.json").read_text("utf-8"))
    assert value.pop(HASH) == hash_json(value), "Swift does not look at it, Python does"
    assert value.pop("format") == FORMAT
    return dataclasses.replace(from_json(Bundle, value), folder=FIXTURE)


def test_every_decoded_field_is_in_the_manifest() -> None:
    structs = decoded_fields(SOURCES["Manifest.swift"])
    options = structs.pop("Options")
    declared = {camel(option.name): f"{option.kind.__name__} | None" for option in TARGET.options}
    assert {field: declared[field] in SWIFT_TYPES[kind] for field, kind in options.items()} == dict.fromkeys(options, True)
    assert set(structs) == set(SWIFT_NAMES)
    for name, fields in structs.items():
        known = {camel(field.name): str(field.type) for field in dataclasses.fields(SWIFT_NAMES[name])}
        if name == "Manifest":
            known["format"] = "int"  # written beside the dataclass's fields
        assert fields, name
        for field, kind in fields.items():
            assert field in known, f"{name}.{field} is not in nouns; it has {sorted(known)}"
            assert known[field] in SWIFT_TYPES[kind], f"{name}.{field} is {kind}, nouns says {known[field]}"
    assert f"readsFormat = {FORMAT}\n" in SOURCES["Manifest.swift"]


def test_the_fixture_is_a_bundle_cut_into_parts(fixture_bundle: Bundle) -> None:
    assert fixture_bundle.target == "coreml"
    assert [len(record.parts) for record in fixture_bundle.components] == [1, 3, 1]
    for record in fixture_bundle.components:
        known = {spec.name: spec for spec in record.inputs}
        for part in record.parts:
            for spec in part.inputs:
                assert known[spec.name] == spec
            known |= {spec.name: spec for spec in part.outputs}
        assert {spec.name for spec in record.outputs} == {spec.name for spec in record.parts[-1].outputs}
    tokenizer = next(artifact for artifact in fixture_bundle.artifacts if artifact.role == "tokenizer")
    assert tokenizer.sha256 == hash_file(FIXTURE / tokenizer.path)


def test_the_fixture_with_its_files_opens(fixture_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(FIXTURE, tmp_path / "bundle")
    for artifact in fixture_bundle.artifacts:
        path = tmp_path / "bundle" / artifact.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch()
            with path.open("r+b") as file:
                file.truncate(artifact.bytes)
    assert read_bundle(tmp_path / "bundle", verify=False).prompt == fixture_bundle.prompt


def test_prompt_literals_are_pythons(fixture_bundle: Bundle) -> None:
    values = literals()
    reader = PromptReader(fixture_bundle.prompt, FIXTURE / "tokenizer" / "tokenizer.json")
    ids, mask = reader.read([values["prompt"], values["longPrompt"]])
    assert ids.tolist() == [values["ids"], values["longIds"]]
    assert mask[0].tolist() == values["mask"]
    assert set(values["mask"]) == {0, 1}, "the example should show padding"


def test_prompts_that_swift_refuses_are_refused_here(fixture_bundle: Bundle) -> None:
    """The Swift test changes the same two fields, and expects the same numbers."""
    text = (APPLE / "Tests" / "SprintDrawTests" / "SprintDrawTests.swift").read_text("utf-8")
    longest = re.search(r"found a prompt of (\d+) tokens; expected at most (\d+)", text)
    assert longest is not None
    for changes, words in (
        ({"prefix_ids": (9,)}, "token 0 of 1 is 2, expected 9"),
        ({"cuts": False}, f"takes {longest[1]} tokens, expected at most {longest[2]}"),
    ):
        plan = dataclasses.replace(fixture_bundle.prompt, **changes)
        with pytest.raises(InputError, match=words):
            PromptReader(plan, FIXTURE / "tokenizer" / "tokenizer.json").read([literals()["longPrompt"]])


def test_step_counts_are_pythons() -> None:
    text = (APPLE / "Tests" / "SprintDrawTests" / "SprintDrawTests.swift").read_text("utf-8")
    given = re.search(r"let plan = StepPlan\(times: (\[.*?\]), counts: (\[.*?\])\)", text)
    assert given is not None
    plan = StepPlan(tuple(ast.literal_eval(given[1])), 1.0, counts=tuple(ast.literal_eval(given[2])))
    found = re.findall(r"plan\.rows\((nil|\d+)\), (\d+)\.\.<(\d+)", text)
    assert len(found) == 2
    for steps, start, end in found:
        assert plan.rows(None if steps == "nil" else int(steps)) == range(int(start), int(end))


def test_sampler_literals_are_pythons() -> None:
    values = literals()
    assert tuple(values["times"]) == trigflow_times(len(values["times"]))
    noise = np.array(values["noise"], np.float32).reshape(len(values["times"]), -1)
    found = sample(lambda x, step: x * np.float32(0.5) + np.float32(step), list(noise), values["times"])
    np.testing.assert_array_equal(found, np.array(values["sampled"], np.float32))


def test_picture_literals_are_pythons() -> None:
    values = literals()
    image = np.array(values["image"], np.float32).reshape(1, 3, 2, 3)
    assert to_uint8(image).ravel().tolist() == values["pixels"]


def test_the_sources_hold_no_constants_of_a_model() -> None:
    student = load_student("sprint-tiny")
    words = [student.prompt.prefix[:24], student.prompt.prefix[-14:], "model.mlpackage", "<bos>"]
    numbers = r"(?<![\w.])(300|299|506|505|512|1024|0\.41407|1\.5708|1\.3|16|32|64|128)(?![\w.]*\d)"
    for name, source in SOURCES.items():
        code = re.sub(r"//.*", "", source)
        assert not (found := [word for word in words if word in code]), f"{name} holds {found}"
        assert not (found := re.findall(numbers, code)), f"{name} holds {found}"


def test_compute_units_are_those_of_the_target() -> None:
    cases = dict(re.findall(r'case "([a-z-]+)": return \.(\w+)', SOURCES["Manifest.swift"]))
    assert set(cases) == set(UNITS)
    for ours, apple in cases.items():
        assert apple.lower() == UNITS[ours].replace("_", "").replace("NE", "neuralEngine").lower()


def test_user_data_is_never_unwrapped_by_force() -> None:
    for name, source in SOURCES.items():
        assert not re.search(r"try!|as!|fatalError|precondition|[\w)\]]!(?!=)", re.sub(r'//.*|"[^"\n]*"', "", source)), name


class Echo:
    """Stands for a network: float32 zeros plus one input's first value, in the shape the pipeline expects."""

    description = "echo"

    def __init__(self, output: str, shape: tuple[int, ...]) -> None:
        self.output, self.shape = output, shape

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        value = float(np.ravel(next(iter(feeds.values())))[0])
        return {self.output: np.full(self.shape, value, np.float32)}


def test_a_reference_holds_what_swift_reads(fixture_bundle: Bundle) -> None:
    sessions = {
        "text_encoder": Echo("prompt_embeds", (1, 8, 128)),
        "transformer": Echo("denoised", (1, *fixture_bundle.latent_shape)),
        "vae_decoder": Echo("image", (1, 3, 64, 64)),
    }
    reader = PromptReader(fixture_bundle.prompt, FIXTURE / "tokenizer" / "tokenizer.json")
    pipe = Pipeline(make_executor(fixture_bundle, sessions), reader, fixture_bundle.latent_shape)
    values = literals()
    reference = json.loads(json.dumps(make_reference(pipe, values["prompt"], seed=3)))
    assert {camel(name) for name in reference} == set(decoded_fields(SOURCES["Reference.swift"])["Reference"])
    assert (reference["ids"], reference["mask"]) == (values["ids"], values["mask"])
    noise = np.array(reference["noise"], np.float32).reshape(1, 1, *fixture_bundle.latent_shape)
    assert reference["picture"] == pipe([values["prompt"]], noise=noise).ravel().tolist()
    assert len(reference["picture"]) == 3 * 64 * 64
    assert reference["min_psnr_db"] == MIN_PSNR_DB


def test_what_the_readme_promises_is_there() -> None:
    readme = (APPLE / "README.md").read_text("utf-8")
    assert "written without a Mac, not compiled, not run" in readme
    for name in re.findall(r"`([\w/-]+\.(?:swift|py))`", readme):
        assert list(APPLE.rglob(f"**/{name}")), f"README names {name}"
    package = (APPLE / "Package.swift").read_text("utf-8")
    for target in re.findall(r'\.(?:target|executableTarget)\(name: "([\w-]+)"', package):
        assert (APPLE / "Sources" / target).is_dir()
    assert '.testTarget(name: "SprintDrawTests"' in package
    version = re.search(r'swift-transformers", exact: "([\d.]+)"', package)
    assert version is not None
    assert f"swift-transformers {version[1]}" in readme
