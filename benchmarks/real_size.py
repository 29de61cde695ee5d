"""The main job at the real size: a student with random weights on disk, from the start of the command to its report.

    python benchmarks/real_size.py save sana-sprint-0.6b /tmp/students/0.6b
    python benchmarks/real_size.py run --out benchmarks/results/real_size.json -- \
        --student /tmp/students/0.6b --target trt-fp8 --count 4

`save` writes a diffusers folder in bf16, shard by shard. `run` starts the command in a process of its own, with an empty cache
unless --cache names one, and keeps the seconds of every stage, as the command reports its progress, and the peak memory that
the system counted, in all and by stage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHARD_BYTES = 2_000_000_000


def save(preset: str, folder: Path) -> None:
    """Write a preset's random weights as the folder its author would have published."""
    import torch

    from sprint_export.students.checkpoints import FOLDERS
    from sprint_export.students.sana_sprint.configs import SCHEDULER
    from sprint_export.students.sana_sprint.presets import LONG_PREFIX, load_preset
    from sprint_export.students.sana_sprint.published import PRESETS

    student, published = load_preset(preset), PRESETS[preset]
    configs = {"text_encoder": published.text_encoder, "transformer": published.transformer, "vae_decoder": published.vae}
    classes = {"text_encoder": "Gemma2Model", "transformer": "SanaTransformer2DModel", "vae_decoder": "AutoencoderDC"}
    index: dict[str, Any] = {
        "_class_name": "SanaSprintPipeline",
        "scheduler": ["diffusers", "SCMScheduler"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    }
    for role, (name, stem) in FOLDERS.items():
        library = "transformers" if role == "text_encoder" else "diffusers"
        index[name] = [library, classes[role]]
        key = "architectures" if role == "text_encoder" else "_class_name"
        own = {key: [classes[role]] if role == "text_encoder" else classes[role]}
        if role == "text_encoder":
            own["model_type"] = "gemma2"
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(own | dict(configs[role]), indent=2))
        _save_shards(folder / name, stem, ((k, h.load().to(torch.bfloat16)) for k, h in student.components[role].weights.items()))
        print(f"{role}: saved", flush=True)
    shutil.copytree(LONG_PREFIX, folder / "tokenizer", dirs_exist_ok=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def _save_shards(folder: Path, stem: str, tensors: Iterator[tuple[str, Any]]) -> None:
    from safetensors.torch import save_file

    shards: list[dict[str, Any]] = [{}]
    places: dict[str, int] = {}
    size = 0

    def flush() -> None:
        save_file(shards[-1], folder / f"{stem}-{len(shards):05}.part", metadata={"format": "pt"})
        shards[-1] = {}

    for name, tensor in tensors:
        if size and size + tensor.nbytes > SHARD_BYTES:
            flush()
            shards.append({})
            size = 0
        shards[-1][name] = tensor.contiguous()
        places[name] = len(shards)
        size += tensor.nbytes
    flush()
    names = {i: f"{stem}-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)}
    if len(shards) == 1:
        names[1] = f"{stem}.safetensors"
    else:
        weight_map = {name: names[i] for name, i in places.items()}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for i, name in names.items():
        (folder / f"{stem}-{i:05}.part").rename(folder / name)


class _Held:
    """The most memory that a process held since it was asked last, looked at ten times a second; Linux alone says it."""

    def __init__(self, pid: int) -> None:
        self._status, self._most = Path(f"/proc/{pid}/statm"), 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with contextlib.suppress(OSError, IndexError):  # the process has ended
            while True:
                self._most = max(self._most, int(self._status.read_text().split()[1]))
                time.sleep(0.1)

    def take(self) -> float:
        """Gigabytes."""
        most, self._most = self._most, 0
        return round(most * resource.getpagesize() / 1e9, 2)


def run(asked: list[str], cache: Path | None) -> dict[str, Any]:
    """Seconds by stage, in all, and peak memory of one command."""
    from sprint_export.validate.machine import describe_machine

    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"SPRINT_EXPORT_CACHE": str(cache or f"{folder}/cache")}
        command = [sys.executable, "-m", "sprint_export", "-v", *asked]
        start, stages, lines = time.monotonic(), {}, []
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stderr is not None
        held, peaks = _Held(process.pid), dict[str, float]()
        for line in process.stderr:
            print(f"{time.monotonic() - start:7.1f} {line}", end="", file=sys.stderr, flush=True)
            stage, found, seconds = line.strip().rpartition(": ")
            if found and seconds.endswith(" s") and seconds[:-2].replace(".", "").isdigit():
                stages[stage], peaks[stage] = float(seconds[:-2]), held.take()
            elif not line.rstrip().endswith("..."):
                lines.append(line.rstrip())
        status = process.wait()
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return {
        "command": " ".join(["sprint-export", *asked]),
        "machine": describe_machine(),
        "exit_status": status,
        "seconds": round(time.monotonic() - start, 1),
        "peak_gb": round(peak, 2),
        "stages": stages,
        "peaks_gb": peaks,
        "said": lines[-12:],
    }


def main() -> None:
    """Save a student, or run the command and keep what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    saving = verbs.add_parser("save")
    saving.add_argument("preset")
    saving.add_argument("folder", type=Path)
    running = verbs.add_parser("run")
    running.add_argument("--out", type=Path)
    running.add_argument("--cache", type=Path)
    running.add_argument("asked", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    if chosen.verb == "save":
        save(chosen.preset, chosen.folder)
        return
    found = json.dumps(run([word for word in chosen.asked if word != "--"], chosen.cache), indent=1)
    print(found)
    if chosen.out:
        chosen.out.write_text(found + "\n")


if __name__ == "__main__":
    main()
