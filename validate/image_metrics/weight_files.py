"""Weights that metrics need and that no wheel brings: a folder the user names, else the caches that torch and the hub fill.

Nothing is downloaded here: a validation takes what is there, and says of the rest how to get it. No torch until a file is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import InputError
from sprint_export.libraries import hush
from sprint_export.paths import is_file, is_folder
from sprint_export.validate.image_metrics.metric import Setting, UnmeasuredError

if TYPE_CHECKING:
    import torch

OPTION = "--metric-weights"
MOST_BYTES = 2_000_000_000  # of one file of weights; VGG16's with its classifier has 0.55e9
SAFE = ".safetensors"
UNUSED = "num_batches_tracked"  # of a BatchNorm that is trained


@dataclass(frozen=True)
class WeightFile:
    """A state_dict that is published under a name.

    Args:
        title: whose weights, of what.
        file: the published name, with its suffix, e.g. alexnet-owt-7be5be79.pth.
        url: where it can be had.
        also: other names by which it is known, without a suffix.
    """

    title: str
    file: str
    url: str
    also: tuple[str, ...] = ()

    @property
    def stems(self) -> tuple[str, ...]:
        """Names without a suffix; any of them may be safetensors too."""
        return (Path(self.file).stem, *self.also)

    def list_places(self, folder: Path | None) -> Iterator[Path]:
        """Where it may lie."""
        for place in (*([folder] if folder else []), list_torch_cache()):
            for stem in self.stems:
                yield from (place / f"{stem}{suffix}" for suffix in (SAFE, Path(self.file).suffix))

    def find(self, folder: Path | None) -> Path | None:
        """The first of these that is there."""
        return next((path for path in self.list_places(folder) if is_file(path)), None)

    def find_fault(self, setting: Setting) -> str | None:
        """A sentence for a report where it is nowhere."""
        if self.find(setting.weights) is not None:
            return None
        looked = " and ".join(str(place) for place in (*([setting.weights] if setting.weights else []), list_torch_cache()))
        return f"{self.title} not found: looked for {self.file} in {looked}; get it from {self.url} and name its folder: {OPTION}"

    def read(self, setting: Setting) -> dict[str, torch.Tensor]:
        """The state_dict; of pickles, tensors and plain containers only are read.

        Raises:
            UnmeasuredError: it is nowhere, too large, or no state_dict.
        """
        path = self.find(setting.weights)
        if path is None:
            raise UnmeasuredError(str(self.find_fault(setting)))
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UnmeasuredError(f"{path} has {size:,} bytes; expected {self.title} in at most {MOST_BYTES:,}")
        return read_state(path)


ALEX_FILE = WeightFile(
    "AlexNet (torchvision, ImageNet)",
    "alexnet-owt-7be5be79.pth",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    ("alexnet",),
)
VGG_FILE = WeightFile(
    "VGG16 (torchvision, ImageNet)", "vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth", ("vgg16",)
)


INCEPTION_FILE = WeightFile(
    "Inception V3 (TensorFlow 2015, for FID)",
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ("pt_inception-2015-12-05-6726825d",),
)


def list_torch_cache() -> Path:
    """The folder that `torch.hub` fills, by the environment variables that it reads."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{home}/torch").expanduser() / "hub" / "checkpoints"


def _read(path: Path) -> Any:
    """The value in a file; torch.load with weights_only reads the format of before 1.6 too, in which VGG16 is published."""
    import torch
    from safetensors.torch import load_file

    from sprint_export.students.torch_file import check_archive

    try:
        if path.suffix == SAFE:
            return load_file(path)
        check_archive(path)
        with hush():
            return torch.load(path, map_location="cpu", weights_only=True)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a crafted pickle makes torch raise all kinds
        said = " ".join(str(error).split())[:200]
        raise UnmeasuredError(f"{path} cannot be read as weights ({said}); nothing in it was run; download it again") from error


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict in a file.

    Raises:
        UnmeasuredError: it holds no such thing.
    """
    import torch

    value = _read(path)
    if not isinstance(value, dict) or not all(isinstance(each, torch.Tensor) for each in value.values()):
        raise UnmeasuredError(f"{path} holds a {type(value).__name__}, expected a state_dict: tensors by name")
    return {str(name): tensor for name, tensor in value.items()}


def fill_module(module: torch.nn.Module, state: Mapping[str, torch.Tensor], title: str) -> None:
    """Give a module all its weights, of a state_dict that may have more.

    Raises:
        UnmeasuredError: one is missing or has another shape; the message names it.
    """
    import torch

    wanted = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(UNUSED)}
    for name, tensor in wanted.items():
        found = state.get(name)
        what = None
        if found is None:
            what = "is missing"
        elif found.shape != tensor.shape:
            what = f"has shape {tuple(found.shape)}, expected {tuple(tensor.shape)}"
        elif not torch.isfinite(found).all():
            what = "holds NaN or infinity"
        if what is not None:
            raise UnmeasuredError(f"{title}: weight {name!r} {what}; get the published file")
    module.load_state_dict({name: state[name] for name in wanted}, strict=False)


def check_weight_folder(folder: Path | None) -> None:
    """Refuse a folder that is none, before any work.

    Raises:
        InputError: it is missing, or a file.
    """
    if folder is not None and not is_folder(folder):
        raise InputError(f"{OPTION} {folder}: expected a folder with the metrics' weights; see docs/metrics.md for their names")
