"""DPG-Bench (Hu et al. 2024, arXiv:2403.05135): 1,065 dense prompts, a text file each, in one folder: <id>.txt."""

from __future__ import annotations

from pathlib import Path

from sprint_export.errors import InputError
from sprint_export.paths import is_folder, read_user_text
from sprint_export.validate.prompt_sets.prompt_set import PromptLayout, PromptSet, check_count, check_inside, check_prompt


class Dpg(PromptLayout):
    """Prompts in the order of their files' names."""

    title, path = "DPG-Bench: dense prompts, a text file each", "the folder with its .txt files"

    def read(self, path: Path) -> PromptSet:
        where = f"--prompts {self.name}:{path}"
        if not is_folder(path):
            raise InputError(f"{where}: no such folder; expected the one with DPG-Bench's .txt files")
        files = sorted(path.glob("*.txt"))
        check_count(where, len(files))
        check_inside(where, path, files)
        texts = tuple(check_prompt(f"--prompts {file}", read_user_text("--prompts", file)) for file in files)
        return PromptSet(texts, title="DPG-Bench")


PROMPT_SET = Dpg(name="dpg")
