"""A bundle is untrusted in C++ too: what was altered, leads out of its folder or is malformed is refused, and nothing crashes."""

from __future__ import annotations

import copy
import io
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bundles import copy_bundle, shared_bundle
from tests.runtimes.cpp.programs import SANITIZED, ask_probe, draw_picture

SEED, COUNT = 7, 80
ODD: tuple[Any, ...] = (None, True, -1, 0, 1, 2**31, 2**63, 2**64 - 1, 1e300, 0.5, [], {}, [[]])
ODD += ("", "x", "../x", "\0", "é" * 50, "32*", "*", "1e9*a", "-1*h")
OUTSIDE = ("../x", "/etc/passwd", "a/../../x", "C:\\x", "..\\x", "a\\b", "", ".", "a/./b", "a//b/", "nul:", "x\0y", "none")
GARBAGE = ("", "\0", '"', "}", "[" * 2000, "9" * 400, "\\ud800")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return copy_bundle(shared_bundle(tmp_path.parent, "onnx-fp32", steps=(1, 2, 4), validate=False), tmp_path / "bundle")


def ship(bundle: Path) -> Path:
    """As an app ships it: without the manifest, which would tell of any change of app.json."""
    (bundle / "bundle.json").unlink()
    return bundle


def read_app(bundle: Path) -> Any:
    return json.loads((bundle / "app.json").read_text("utf-8"))


def check_refused(bundle: Path, *parts: str) -> None:
    done = draw_picture(bundle, "a red circle", "-o", bundle.parent / "a.png")
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done
    for part in ("error: ", *parts):
        assert part in done.stderr, done
    assert not (bundle.parent / "a.png").exists()


def test_a_flipped_bit_is_found(bundle: Path) -> None:
    for file in ("transformer/model.onnx.data", "text_encoder/model.onnx", "tokenizer/tokenizer.json"):
        data = bytearray((bundle / file).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / file).write_bytes(data)
        check_refused(bundle, file, "was altered")
        data[len(data) // 2] ^= 1
        (bundle / file).write_bytes(data)


@pytest.mark.parametrize("place", ["generate", '"times"', "philox4x32-10"])
def test_a_changed_letter_of_the_description_is_found_where_the_manifest_lies_beside_it(bundle: Path, place: str) -> None:
    """One bit of a prefix draws another picture; a time's digit too."""
    text = (bundle / "app.json").read_bytes()
    at = text.lower().index(place.encode()) + len(place) - 1
    (bundle / "app.json").write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
    check_refused(bundle, "app.json")
    if place == "generate":
        done = draw_picture(ship(bundle), "a red circle", "-o", bundle.parent / "a.png")
        assert done.returncode == 0, "nothing tells it there"


def test_a_file_of_another_size_is_found_without_hashing(bundle: Path) -> None:
    with (bundle / "transformer" / "model.onnx.data").open("ab") as file:
        file.write(b"x")
    done = draw_picture(bundle, "a red circle", "--no-verify", "-o", bundle.parent / "a.png")
    assert done.returncode == 2
    assert "bytes, expected" in done.stderr


def test_a_link_is_not_followed(bundle: Path) -> None:
    for part in ("transformer/model.onnx", "transformer", "app.json"):
        moved = bundle.parent / "moved"
        (bundle / part).rename(moved)
        (bundle / part).symlink_to(moved)
        check_refused(bundle, part, "is a link")
        (bundle / part).unlink()
        moved.rename(bundle / part)


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_elsewhere_is_refused(bundle: Path, path: str) -> None:
    app = read_app(ship(bundle))
    graph = app["networks"]["transformer"]["graphs"][0]
    for file in app["files"]:
        file["path"] = path if file["path"] == graph["path"] else file["path"]
    graph["files"] = [path if file == graph["path"] else file for file in graph["files"]]
    graph["path"] = path
    (bundle / "app.json").write_text(json.dumps(app), "utf-8")
    check_refused(bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda app: app.update(format=2), "app.json.format is 2, expected a whole number from 1 to 1"),
        (lambda app: app["runtimes"].update(onnxruntime="1.999"), "the bundle needs 1.999 or newer"),
        (lambda app: app.pop("stages"), 'app.json has no "stages"'),
        (lambda app: app["sampler"].update(next="x"), 'sampler.next is "x", expected "(1 - s)*x0 + s*noise"'),
        (lambda app: app["noise"].update(generator="mt19937"), 'noise.generator is "mt19937", expected "philox'),
        (lambda app: app["files"].append(app["files"][0]), "expected every file once"),
        (lambda app: app["files"].extend(app["files"] * 4096), "expected at most 4096"),
        (lambda app: app["noise"].update(shape=[1 << 20, 1 << 20]), "expected at most 1073741824 values"),
        (lambda app: app["noise"].update(shape=[4, 8, 8]), 'expected the shape of "latents", which transformer reads'),
        (lambda app: app["prompt"]["mask"].update(kept=[[0, 9]] * 65), "expected at most 64"),
        (lambda app: app["prompt"]["steps"].extend([{"do": "pad", "tokens": 9, "id": 0}] * 64), "expected at most 64"),
        (
            lambda app: app["networks"]["transformer"]["graphs"].extend(app["networks"]["transformer"]["graphs"] * 64),
            "1 to 64 graphs",
        ),
        (lambda app: app["networks"]["transformer"]["graphs"][0].update(format="xml"), 'format is "xml", expected "onnx"'),
        (lambda app: app["networks"]["transformer"]["graphs"][0]["files"].append("bundle.json"), "expected one of its files"),
        (lambda app: app["networks"]["transformer"]["graphs"][0]["inputs"][0].update(dtype="int64"), "app.json says otherwise"),
        (lambda app: app["networks"]["transformer"]["graphs"][0]["inputs"].pop(), "has inputs that app.json does not name"),
        (lambda app: app["networks"]["transformer"]["graphs"][0]["outputs"][0].update(name="x"), 'has no output "x"'),
        (lambda app: app["stages"].append(app["stages"][1]), "those of each step together"),
        (lambda app: app["stages"].pop(0), 'no network writes "prompt_embeds"'),
        (lambda app: app["prompt"]["steps"].append({"do": "lower"}), 'texts before one "tokenize"'),
        (lambda app: app["prompt"].update(vocabulary=2), "the text encoder knows 0 to 1"),
        (lambda app: app["sampler"]["schedules"]["2"]["rows"].pop(), "as many times and rows as its name says steps"),
    ],
)
def test_a_damaged_description_is_said_by_name(bundle: Path, change: Callable[[Any], object], said: str) -> None:
    app = read_app(ship(bundle))
    change(app)
    (bundle / "app.json").write_text(json.dumps(app), "utf-8")
    done = draw_picture(bundle, "a red circle", "-o", bundle.parent / "a.png")
    assert done.returncode in (2, 3), done
    assert said in done.stderr, done
    assert done.stderr.count("\n") == 1, done


def list_places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value within."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in pairs for place in ((value, key), *list_places(each))]


def mutate(app: Any, draw: random.Random) -> str:
    """Its text with one to three values replaced, removed or doubled, or with bytes changed."""
    text = json.dumps(app, ensure_ascii=False)
    if draw.random() < 0.2:
        place = draw.randrange(len(text))
        return text[:place] + draw.choice(GARBAGE) + text[place + draw.randrange(3) :]
    changed = copy.deepcopy(app)
    for _ in range(draw.randrange(1, 4)):
        container, key = draw.choice(list_places(changed))
        if draw.random() < 0.2:
            del container[key]
        elif isinstance(container, list) and draw.random() < 0.3:
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = draw.choice(ODD)
    return json.dumps(changed)


def test_mutated_descriptions_never_crash(bundle: Path) -> None:
    app, draw = read_app(ship(bundle)), random.Random(SEED)
    for step in app["prompt"]["steps"]:
        step.pop("prefix", None)  # it is half of the text
    app["prompt"]["steps"] = [step | ({"prefix": "a"} if step["do"] == "wrap" else {}) for step in app["prompt"]["steps"]]
    deep = "[" * 100_000 + "]" * 100_000
    apps = [json.dumps(app), *(mutate(app, draw) for _ in range(COUNT)), "", "[]", "null", "[" * 100_000, deep]
    answers = ask_probe("apps", {"folder": str(bundle), "apps": apps}, SANITIZED)
    kinds = Counter(answer.split(" ")[0] for answer in answers)
    assert answers[0].startswith("drawn"), answers[0]
    assert set(kinds) <= {"drawn", "BundleError", "InputError", "MachineError"}
    assert kinds["BundleError"] > COUNT / 2, kinds


def test_mutated_pictures_never_crash(tmp_path: Path) -> None:
    draw, paths = random.Random(SEED), []
    rows = np.add.outer(np.arange(24), np.arange(96)).astype(np.uint8).reshape(24, 32, 3)
    for i in range(COUNT):
        data = io.BytesIO()
        Image.fromarray(rows ^ draw.randrange(256)).save(data, "PNG", compress_level=draw.randrange(10))
        damaged = bytearray(data.getvalue()[: draw.choice([None, -20])])
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(damaged)
    answers = ask_probe("png", list(map(str, paths)), SANITIZED)
    assert sum("PNG file is damaged" in answer for answer in answers) > COUNT / 4


@pytest.mark.parametrize(("question", "file"), [("references", "reference/reference.json"), ("manifests", "bundle.json")])
def test_mutated_references_and_manifests_never_crash(bundle: Path, question: str, file: str) -> None:
    whole, draw = json.loads((bundle / file).read_text("utf-8")), random.Random(SEED)
    texts = [json.dumps(whole), *(mutate(whole, draw) for _ in range(COUNT // 2))]
    answers = ask_probe(question, {"folder": str(bundle), "texts": texts}, SANITIZED)
    assert " " not in answers[0] or answers[0] == "drawn 3", answers[0]
    refused = sum(answer.startswith("BundleError ") for answer in answers)
    assert refused > COUNT / 8, Counter(answer.split(" ")[0] for answer in answers)


def test_a_tokenizer_that_grows_a_text_is_stopped(bundle: Path) -> None:
    """Each part doubles it: sixty of them would take 2^60 letters."""
    file = ship(bundle) / "tokenizer" / "tokenizer.json"
    whole = json.loads(file.read_text("utf-8"))
    doubled = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    for change in (
        {"normalizer": {"type": "Sequence", "normalizers": [doubled] * 60}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [byte_level] * 60}},
    ):
        file.write_text(json.dumps(whole | change), "utf-8")
        app = read_app(bundle)
        for entry in app["files"]:
            entry["bytes"] = (bundle / entry["path"]).stat().st_size
        app["prompt"]["steps"][0:0] = [{"do": "wrap", "prefix": "é", "suffix": ""}]
        [answer] = ask_probe("apps", {"folder": str(bundle), "apps": [json.dumps(app)]})
        assert "letters of a text, expected at most 16777216" in answer


def test_mutated_tokenizers_never_crash(bundle: Path) -> None:
    whole = json.loads((ship(bundle) / "tokenizer" / "tokenizer.json").read_text("utf-8"))
    draw, kinds = random.Random(SEED), Counter[str]()
    for _ in range(8):
        (bundle / "tokenizer" / "tokenizer.json").write_text(mutate(whole, draw), "utf-8", "surrogatepass")
        app = read_app(bundle)
        for file in app["files"]:
            file["bytes"] = (bundle / file["path"]).stat().st_size
        [answer] = ask_probe("apps", {"folder": str(bundle), "apps": [json.dumps(app)]}, SANITIZED)
        kinds[answer.split(" ")[0]] += 1
    assert kinds["BundleError"], kinds
    assert set(kinds) <= {"drawn", "BundleError", "InputError"}
