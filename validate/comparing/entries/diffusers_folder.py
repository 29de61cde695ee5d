"""A diffusers folder of the same student, as another program quantized it: SDNQ, torchao, or not at all.

    model_index.json             names the family's own pipeline class
    <network>/config.json        quantization_config.quant_method: sdnq or torchao

The family opens the networks with stock classes (`Family.open_stock`). Methods whose files are pickles, or that fetch code, are
not opened; nothing of the folder is executed, and a link may not leave it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import InputError, MachineError, SprintExportError, unknown_choice
from sprint_export.files import list_tree
from sprint_export.libraries import hush, is_installed
from sprint_export.students.folder import check_file, read_json, read_pipeline
from sprint_export.validate.comparing.entry import Drawn, Entry, EntryKind, Setting, list_names, weigh_files
from sprint_export.validate.comparing.torchao_files import root_tensors_read

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sprint_export.students.family import Family

INDEX = "model_index.json"
INSTALLED_AS = {"optimum.intel.openvino.modeling_diffusion": "optimum-intel"}
ADAPTER, SHARDS = "adapter_config.json", ".safetensors.index.json"
METHODS = {"sdnq": "sdnq", "torchao": "torchao"}  # quant_method -> what is imported
WEIGHED = ("*.safetensors",)
LIBRARIES = ("diffusers", "transformers")  # that components of an index may come from
OTHER_PARTS = ("scheduler", "tokenizer", "vae")  # of an index, beside the roles of networks


class DiffusersFolders(EntryKind):
    """Folders that a pipeline's save_pretrained wrote."""

    title, holds = "a diffusers folder", f"{INDEX}, text_encoder/, transformer/, vae/ with safetensors; SDNQ or torchao"

    def opens(self, folder: Path) -> bool:
        return (folder / INDEX).is_file()

    def weigh(self, folder: Path) -> int:
        return weigh_files(folder, WEIGHED)

    def open(self, folder: Path, setting: Setting) -> Entry:
        from sprint_export.students.family import load_family

        check_tree(folder)
        family = load_family(setting.student.family)
        check_index(folder, family, family.pipelines, LIBRARIES)
        methods = {method for path in sorted(folder.glob("*/config.json")) if (method := _read_method(path, folder))}
        for method in sorted(methods):
            import_library(METHODS[method])
        with root_tensors_read() if "torchao" in methods else nullcontext():
            pipeline = family.open_stock(setting.student, folder)
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("diffusers", "torch", *sorted(methods))]
        return StockEntry(setting, family, pipeline, ", ".join(versions), self.weigh(folder))


@dataclass
class StockEntry(Entry):
    """A pipeline with the interface of the family's stock one."""

    setting: Setting
    family: Family
    pipeline: Any
    description: str
    bytes: int | None
    is_measured: bool = True

    def draw(self, place: int, prompt: str, noise: npt.NDArray[np.float32]) -> Drawn:
        from sprint_export.students.family import Draws

        times = self.setting.times
        own = self.family.plan_times(len(times))
        draws = Draws([prompt], noise, self.setting.guidance, times=() if times == own else times)
        start = time.perf_counter()
        try:
            with hush():
                pictures = self.family.draw_stock(self.setting.student, self.pipeline, draws)
        except (SprintExportError, MemoryError):
            raise
        except Exception as error:  # the pipeline's own, of all kinds
            said = " ".join(str(error).split())[:300]
            raise InputError(f"{self.description}: its pipeline cannot draw {prompt[:80]!r} ({said})") from error
        return Drawn(pictures[0], time.perf_counter() - start)


def check_tree(folder: Path) -> None:
    """Whether all that a library opens lies in the folder: links and shards lead to regular files in it, no adapter to others.

    Raises:
        InputError: something does not.
    """
    for path, _ in list_tree(folder):
        if path.is_dir() and not path.is_symlink():
            continue
        check_file(path, folder)
        if path.name == ADAPTER:
            raise InputError(
                f"{path} names weights that lie elsewhere; expected networks that are whole: merge the adapter first"
            )
        if path.name.endswith(SHARDS):
            _check_shards(path, folder)


def _check_shards(path: Path, folder: Path) -> None:
    """Whether an index names files beside it alone."""
    found = read_json(path, folder).get("weight_map")
    names = set(map(str, found.values())) if isinstance(found, dict) else {""}
    for name in sorted(names):
        if Path(name).name != name or not (path.parent / name).is_file():
            raise InputError(f"{path} names {name[:80]!r}; expected files beside it: {list_names(path.parent)}")


def check_index(folder: Path, family: Family, pipelines: Sequence[str], libraries: Sequence[str]) -> None:
    """Whether an index names one of these pipeline classes, and the family's own components, of these libraries.

    What else stands in it would be imported, or handed to a library as an argument.

    Raises:
        InputError: it does not.
    """
    path = folder / INDEX
    index, found = read_json(path, folder), read_pipeline(folder)
    if found not in pipelines:
        raise unknown_choice(f"pipeline class in {path}:", found, pipelines)
    components = {*OTHER_PARTS, *family.chain.roles}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if name not in components or not isinstance(value, list) or len(value) != 2:
            raise InputError(f"{path}: {name[:80]!r} is no component of {found}; expected {', '.join(sorted(components))}")
        if value[0] not in (None, *libraries):
            raise InputError(
                f"{path}: {name} comes from {str(value[0])[:80]!r}, which is not imported; expected {' or '.join(libraries)}"
            )


def _read_method(path: Path, folder: Path) -> str:
    """The quantization method that a network's config names; "" where it names none.

    Raises:
        InputError: it is none of METHODS.
    """
    config = read_json(path, folder).get("quantization_config")
    if config is None:
        return ""
    method = str(config.get("quant_method")) if isinstance(config, dict) else str(config)
    if method not in METHODS:
        raise unknown_choice(f"quant_method in {path}:", method, METHODS, "Or give a folder of the pictures it draws")
    return method


def import_library(name: str) -> Any:
    """A library that only other programs' folders need.

    Raises:
        MachineError: it is not installed.
    """
    if not is_installed(name.partition(".")[0]):
        raise MachineError(f"{name} is not installed; run: pip install {INSTALLED_AS.get(name, name)}")
    with hush():
        return importlib.import_module(name)


ENTRY = DiffusersFolders(name="diffusers")
