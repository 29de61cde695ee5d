"""Pictures in files are the pictures: any slice of them, in any parts; figures of all are those of an array."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sprint_export.errors import MachineError
from sprint_export.psnr import psnr_images
from sprint_export.validate import kept as kept_files
from sprint_export.validate import rows
from sprint_export.validate.images import relative_error
from sprint_export.validate.kept import Kept, hold_kept
from sprint_export.validate.page.embedding import choose_gain
from sprint_export.validate.rows import JoinedRows, KeptRows, join_rows, map_rows, open_rows, split_rows, take_row, walk_rows

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), np.uint8)

pytestmark = pytest.mark.usefixtures("own_cache")


def keep_pictures(pictures: np.ndarray = PICTURES, question: str = "mine") -> KeptRows:
    kept = Kept("drawn")
    paths = [kept.locate([question, i], {}) for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        kept.write(path, {"picture": picture, "other": np.zeros(3)}, is_needed=True)
    (found,), first = open_rows(kept, paths, ["picture"])
    np.testing.assert_array_equal(first["picture"], pictures[0])
    return found


@pytest.mark.parametrize("part", [slice(None), slice(2, 5), slice(0, 1), slice(6, 99), slice(3, 3), slice(-2, None)])
def test_a_slice_of_kept_or_joined_rows_is_that_of_the_array(part: slice) -> None:
    kept = keep_pictures()
    joined = join_rows(join_rows(PICTURES[:2], keep_pictures(PICTURES[2:5], "middle")), PICTURES[5:])
    for found in (kept, joined):
        assert found.shape == PICTURES.shape
        assert len(found) == len(PICTURES)
        np.testing.assert_array_equal(found[part], PICTURES[part])
        assert found[part].dtype == np.uint8
    assert isinstance(joined, JoinedRows) and len(joined.parts) == 3
    assert isinstance(join_rows(PICTURES, PICTURES), np.ndarray)


def test_all_are_read_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "AT_ONCE", 200)
    kept = keep_pictures()
    assert [len(kept[part]) for part in split_rows(kept, 200)] == [2, 2, 2, 1]
    assert [len(kept[part]) for part in split_rows(kept, 1)] == [1] * 7, "at least one"
    np.testing.assert_array_equal(list(walk_rows(kept)), PICTURES)
    np.testing.assert_array_equal(take_row(kept, 4), PICTURES[4])


def test_figures_of_files_are_those_of_the_array() -> None:
    other = np.roll(PICTURES, 1, axis=2)
    seen: list[int] = []

    def compare(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        seen.append(len(ours))
        return psnr_images(ours, theirs)

    kept = keep_pictures(), keep_pictures(other, "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows.split_rows, "__defaults__", (200,))
        np.testing.assert_array_equal(map_rows(compare, *kept), psnr_images(PICTURES, other))
        assert seen == [2, 2, 2, 1]
        state, moved = PICTURES.astype(np.float32), other.astype(np.float32) + 0.25
        wanted = np.abs(moved - state).max() / np.abs(state).max()
        assert relative_error(moved, state) == wanted
        gain = choose_gain(*kept)
    assert gain == choose_gain(PICTURES, other)
    with pytest.raises(ValueError, match=r"sides of 7, 6 rows"):
        map_rows(compare, PICTURES, PICTURES[:6])


def test_the_gain_is_chosen_by_the_same_pixels_however_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    exported, reference = (np.random.default_rng(i).integers(0, 30, (50, 9, 11, 3), np.uint8) for i in range(2))
    exported[:, 0] = 255  # few pixels: which of them are read decides
    monkeypatch.setattr("sprint_export.validate.page.embedding.SAMPLED_PIXELS", 700)
    whole = choose_gain(exported, reference)
    read: list[np.ndarray] = []
    original = np.percentile

    def percentile(values: np.ndarray, share: float) -> float:
        read.append(values)
        return float(original(values, share))

    monkeypatch.setattr(np, "percentile", percentile)
    monkeypatch.setattr(rows.split_rows, "__defaults__", (2000,))
    assert choose_gain(exported, reference) == whole
    step = exported[..., 0].size // 700
    wanted = np.abs(exported.reshape(-1, 3)[::step].astype(np.int16) - reference.reshape(-1, 3)[::step])
    np.testing.assert_array_equal(read[0], wanted)


def test_a_file_that_is_gone_or_damaged_is_said() -> None:
    kept = keep_pictures()
    kept.paths[3].write_bytes(kept.paths[3].read_bytes()[:-1] + b"?")
    np.testing.assert_array_equal(kept[:3], PICTURES[:3])
    with pytest.raises(MachineError, match=r"is not there any more, or damaged.*run the same command again"):
        kept[3:4]
    kept.paths[3].unlink()
    with pytest.raises(MachineError, match="is not there any more"):
        kept[:]


def test_a_result_that_is_needed_and_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", "/dev/null/x")
    kept = Kept("drawn")
    kept.write(kept.locate("q", {}), {"picture": PICTURES[0]})
    with pytest.raises(MachineError, match="SPRINT_EXPORT_CACHE"):
        kept.write(kept.locate("q", {}), {"picture": PICTURES[0]}, is_needed=True)


def test_nothing_is_removed_while_another_run_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process holds what is kept; when it is killed, its word is void."""
    monkeypatch.setattr(kept_files, "MOST_BYTES", 1)
    pictures = keep_pictures()
    script = (
        "import sys, time\n"
        "from sprint_export.validate.kept import hold_kept\n"
        "with hold_kept():\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=dict(os.environ), text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        Kept("drawn").bound()
        assert all(path.is_file() for path in pictures.paths)
        holder.kill()
        holder.wait()
    Kept("drawn").bound()
    assert not any(path.is_file() for path in pictures.paths)


def test_a_run_is_not_held_up_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_files, "MOST_BYTES", 1)
    pictures = keep_pictures()
    with hold_kept() as holder:
        assert holder.path is not None and holder.path.is_file()
        os.utime(holder.path, (1, 1))
        holder.renew()
        assert holder.path.stat().st_mtime > 1
        pictures.kept.bound()
        assert all(path.is_file() for path in pictures.paths), "those that this run needs"
        Kept("drawn").bound()
    assert not any(path.is_file() for path in pictures.paths)
    assert not holder.path.exists()
