"""A folder of optimum-intel: OpenVINO IR in diffusers' layout, opened by its own pipeline class on the CPU.

model_index.json     `_class_name` is OV and the family's pipeline class
<network>/openvino_model.xml, .bin
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from sprint_export.errors import InputError
from sprint_export.libraries import hush
from sprint_export.students.folder import read_pipeline
from sprint_export.validate.comparing.entries.diffusers_folder import (
    INDEX,
    LIBRARIES,
    StockEntry,
    check_index,
    check_tree,
    import_library,
)
from sprint_export.validate.comparing.entry import Entry, EntryKind, Setting, list_names, weigh_files

MODULE = "optimum.intel.openvino.modeling_diffusion"
GRAPH = "openvino_model.xml"
WEIGHED = ("*.xml", "*.bin")


class OptimumFolders(EntryKind):
    """Folders that `optimum-cli export openvino` wrote."""

    title, holds, rank = "an optimum-intel folder", f"{INDEX}, transformer/{GRAPH}", 1

    def opens(self, folder: Path) -> bool:
        return (folder / INDEX).is_file() and any(folder.glob(f"*/{GRAPH}"))

    def weigh(self, folder: Path) -> int:
        return weigh_files(folder, WEIGHED)

    def open(self, folder: Path, setting: Setting) -> Entry:
        from sprint_export.students.family import load_family

        check_tree(folder)
        family = load_family(setting.student.family)
        check_index(folder, family, [f"OV{name}" for name in family.pipelines], (*LIBRARIES, MODULE))
        stock = getattr(import_library(MODULE), read_pipeline(folder), None)
        if stock is None:
            raise InputError(f"{folder}: optimum-intel has no {read_pipeline(folder)}; give a folder of the pictures it draws")
        given = family.open_stock(setting.student, folder, has_networks=False)  # else optimum imports what the index names
        try:
            with hush():
                parts = {"tokenizer": given.tokenizer, "scheduler": given.scheduler}
                pipeline = stock.from_pretrained(folder, export=False, device="CPU", local_files_only=True, **parts)
        except Exception as error:  # optimum's and OpenVINO's own, of all kinds
            said = " ".join(str(error).split())[:300]
            raise InputError(f"{folder}: {stock.__name__} cannot load it ({said}); found {list_names(folder)}") from error
        pipeline.set_progress_bar_config(disable=True)
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("optimum-intel", "openvino")]
        return StockEntry(setting, family, pipeline, ", ".join(versions), self.weigh(folder))


ENTRY = OptimumFolders(name="optimum")
