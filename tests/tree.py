"""The source tree as the house rules see it: which files are modules of sprint_export, and under which name."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROLES = ("text_encoder", "transformer", "vae_decoder")  # of the embedded student's family
STAGES = ("students", "quantize", "export", "runtimes", "validate")


def package_modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file for every module of the package; the links in src/sprint_export are not followed."""
    source = root / "src" / "sprint_export"
    found = {_dotted(path.relative_to(source.parent)): path for path in _own_files(source)}
    for stage in STAGES:
        found |= {f"sprint_export.{_dotted(path.relative_to(root))}": path for path in (root / stage).rglob("*.py")}
    return dict(sorted(found.items()))


def _own_files(folder: Path) -> list[Path]:
    """Modules below a folder; links are not followed."""
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    return [*folder.glob("*.py"), *(path for each in inner for path in _own_files(each))]


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
