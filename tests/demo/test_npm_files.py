"""The page's runtime comes from a node_modules folder, the cache or an npm registry, byte for byte as pinned, or not at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from sprint_export.demo.npm_files import find_packages, read_packages
from sprint_export.demo.npm_registry import REGISTRY, VARIABLES, find_registry
from sprint_export.demo.site_files import PAGE
from sprint_export.errors import InputError, MachineError
from tests.demo.registry import CODE, make_package, make_tarball, serve_registry
from tests.tree import ROOT

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(autouse=True)
def _no_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_pins_are_whole() -> None:
    packages = read_packages(PAGE)
    assert {package.name for package in packages} == {"onnxruntime-web", "@huggingface/tokenizers"}
    urls = {file.to for package in packages for file in package.files}
    runtimes = json.loads((PAGE / "npm_packages.json").read_text("utf-8"))["runtimes"]
    assert {path for runtime in runtimes.values() for path in runtime.values()} <= urls
    assert all(package.integrity.startswith("sha512-") for package in packages)
    notices = (PAGE / "notices.txt").read_text("utf-8")
    assert all(f"{package.name} {package.version}" in notices or package.version in notices for package in packages)


def test_the_pins_are_what_the_package_is_tested_with() -> None:
    tested = json.loads((ROOT / "tests/runtimes/javascript/packages.json").read_text("utf-8"))["dependencies"]
    assert {package.name: package.version for package in read_packages(PAGE)}.items() <= tested.items()


def test_a_package_is_fetched_once_and_only_its_pinned_files_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tarball = make_tarball()
    package = make_package(tarball)
    with serve_registry(tarball) as registry:
        monkeypatch.setenv("npm_config_registry", registry.url)
        folder = find_packages((package,))[package.name]
        assert find_packages((package,)) == {package.name: folder}
        assert registry.asked == ["/npm/@some/code/-/code-1.2.3.tgz"]
    assert (folder / "dist/code.mjs").read_bytes() == CODE
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["code.mjs"]
    assert not (tmp_path / "cache/npm/outside").exists()


def test_a_damaged_file_in_the_cache_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tarball = make_tarball()
    package = make_package(tarball)
    with serve_registry(tarball) as registry:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.url)
        folder = find_packages((package,))[package.name]
        (folder / "dist/code.mjs").write_bytes(CODE.upper())
        find_packages((package,))
        assert len(registry.asked) == 2
    assert (folder / "dist/code.mjs").read_bytes() == CODE


@pytest.mark.parametrize("other", [make_tarball({"package/dist/code.mjs": b"evil"}), make_tarball() + b"x" * 100_000])
def test_another_tarball_than_the_pinned_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: bytes) -> None:
    with serve_registry(other) as registry:
        monkeypatch.setenv("npm_config_registry", registry.url)
        with pytest.raises(MachineError, match=r"are not @some/code@1\.2\.3: its sha512 is another"):
            find_packages((make_package(make_tarball()),))
    assert not list((tmp_path / "cache").rglob("*.mjs"))


def test_a_link_in_a_tarball_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    tarball = make_tarball({}, links={"package/dist/code.mjs": "/etc/passwd"})
    with serve_registry(tarball) as registry:
        monkeypatch.setenv("npm_config_registry", registry.url)
        with pytest.raises(MachineError, match=r"lacks dist/code\.mjs as pinned"):
            find_packages((make_package(tarball),))


def test_without_a_network_the_message_names_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    with pytest.raises(
        MachineError, match=r"code-1\.2\.3\.tgz cannot be fetched .*npm install @some/code@1\.2\.3.*--node-modules"
    ):
        find_packages((make_package(make_tarball()),))


def test_a_registry_of_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "file:///etc")
    with pytest.raises(MachineError, match="expected an address that begins with https"):
        find_packages((make_package(make_tarball()),))


def make_node_modules(folder: Path, version: str, code: bytes) -> Path:
    package = folder / "@some/code"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": version}), "utf-8")
    (package / "dist/code.mjs").write_bytes(code)
    return folder


def test_a_given_node_modules_is_taken(tmp_path: Path) -> None:
    folder = make_node_modules(tmp_path / "node_modules", "1.2.3", CODE)
    assert find_packages((make_package(b""),), folder) == {"@some/code": folder / "@some/code"}


@pytest.mark.parametrize(
    ("version", "code", "message"), [("1.2.4", CODE, "version 1.2.4, expected 1.2.3"), ("1.2.3", b"x", "code.mjs")]
)
def test_other_files_in_node_modules_are_refused(tmp_path: Path, version: str, code: bytes, message: str) -> None:
    folder = make_node_modules(tmp_path / "node_modules", version, code)
    with pytest.raises(InputError, match=rf"{message}.*npm install @some/code@1\.2\.3"):
        find_packages((make_package(b""),), folder)
    with pytest.raises(InputError, match="has no other"):
        find_packages((dataclasses.replace(make_package(b""), name="other"),), folder)


def test_the_registry_is_the_one_that_npm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_registry("@some/code") == REGISTRY
    (tmp_path / ".npmrc").write_text(
        "//host/:_other=1\nregistry = https://one.example/npm\n@some:registry=https://two.example/\n"
    )
    assert find_registry("code") == "https://one.example/npm/"
    assert find_registry("@some/code") == "https://two.example/"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://three.example")
    assert find_registry("code") == "https://three.example/"
