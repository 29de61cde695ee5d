"""The page as static files: all of them, in a folder that is whole or absent and was nobody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.demo.site_files import Site, SiteFile
from sprint_export.demo.static_copy import write_site
from sprint_export.errors import BundleError, InputError
from tests.test_files import part_of_a_dead_process


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    files = [
        SiteFile("index.html", "page", 4, "1" * 64, content=b"page"),
        SiteFile("bundle/decoder/model.onnx", "bundle", 5, "2" * 64, tmp_path, "model.onnx"),
    ]
    return Site("made", {file.url: file for file in files})


def list_contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("is_there", [False, True])
def test_all_files_are_written_with_the_headers_that_threads_need(tmp_path: Path, site: Site, is_there: bool) -> None:
    folder = tmp_path / "site"
    if is_there:
        folder.mkdir()
    write_site(site, folder)
    found = list_contents(folder)
    assert set(found) == {"index.html", "bundle/decoder/model.onnx", "_headers"}
    assert found["bundle/decoder/model.onnx"] == b"graph"
    assert b"Cross-Origin-Embedder-Policy: require-corp" in found["_headers"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_with_files_is_left_alone(tmp_path: Path, site: Site) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear", "utf-8")
    with pytest.raises(InputError, match="is not empty; expected a folder that is new or empty"):
        write_site(site, tmp_path / "mine")
    with pytest.raises(InputError, match="is a file or a link"):
        write_site(site, tmp_path / "model.onnx")
    assert list_contents(tmp_path / "mine") == {"letter.txt": b"dear"}


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path, site: Site) -> None:
    (tmp_path / "sites").mkdir()
    part_of_a_dead_process(tmp_path / "sites" / "site").mkdir()
    write_site(site, tmp_path / "sites" / "site")
    assert [path.name for path in (tmp_path / "sites").iterdir()] == ["site"]


def test_nothing_is_left_where_a_file_has_changed(tmp_path: Path, site: Site) -> None:
    (tmp_path / "model.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match="has changed"):
        write_site(site, tmp_path / "site")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]
