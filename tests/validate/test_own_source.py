"""Which students a bundle's manifest may have opened, and how soon another is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.cli.app import app
from sprint_export.errors import InputError
from sprint_export.validate.own_source import check_own_source


@pytest.mark.parametrize("source", ["sprint-tiny", "control-tiny", "random:sana-sprint-0.6b"])
def test_what_comes_with_the_package_is_opened_unasked(source: str) -> None:
    check_own_source(source)


@pytest.mark.parametrize("source", ["/somebody/else", "owner/name", "made", "../sprint-tiny"])
def test_a_folder_or_hub_id_is_opened_only_where_the_user_gives_it(source: str) -> None:
    with pytest.raises(InputError, match=f"give it: --student {source}"):
        check_own_source(source)


def test_validate_refuses_before_anything_is_loaded(made_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        pytest.fail("PyTorch is loaded before the mistake is said")

    monkeypatch.setattr("sprint_export.run_checks.load_libraries", load)
    with pytest.raises(InputError, match="is not opened by itself"):
        app(["validate", str(made_bundle), "-q"], standalone_mode=False)
