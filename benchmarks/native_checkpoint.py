"""SANA-Sprint 0.6B from a native .pth at full size, random weights: seconds and peak memory of reading, folding and exporting it.

    python benchmarks/native_checkpoint.py --out benchmarks/results          # 3 minutes, 3 GB of disk

The file is what a trainer saves: float32 weights and moments of an optimizer under `state_dict` and `optimizer`. Text encoder and
decoder are small ones of the right width, so that what is measured is the transformer's. Every case runs in its own process; peak
memory is VmHWM of the operating system, of which libraries alone take what the first case shows.

    libraries         what a run imports
    pull              load, specialize to one step, load every folded weight one by one
    pull, LoRA        the same with a LoRA of rank 64 on all projections of the attentions
    onnx-fp16         the transformer exported to ONNX, from the command's road
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sprint_export.validate.machine import describe_machine

WIDTH, RANK = 1152, 64
CASES = ("libraries", "pull", "pull, LoRA", "onnx-fp16")


def write_files(work: Path) -> None:
    """The checkpoint, a LoRA, and a small text encoder, tokenizer and decoder."""
    import shutil

    from diffusers import AutoencoderDC
    from safetensors.torch import save_file
    from transformers import Gemma2Config, Gemma2Model

    from sprint_export.students.sana_sprint.native import BLOCK, MODULES
    from sprint_export.students.sana_sprint.presets import LONG_PREFIX, load_preset
    from sprint_export.students.sana_sprint.published import DC_AE, GEMMA_2_2B

    weights = dict(load_preset("sana-sprint-0.6b").components["transformer"].weights)
    layers = len({name.split(".")[1] for name in weights if name.startswith("transformer_blocks.")})
    named = MODULES | {
        f"blocks.{i}.{name}".rstrip("."): tuple(f"transformer_blocks.{i}.{to}".rstrip(".") for to in targets)
        for i in range(layers)
        for name, targets in BLOCK.items()
    }
    state = {}
    for module, targets in named.items():
        for leaf in ("weight", "bias", "scale_shift_table"):
            handles = [weights[name] for to in targets if (name := f"{to}.{leaf}".lstrip(".")) in weights]
            if handles:
                state[f"{module}.{leaf}"] = torch.cat([handle.load() for handle in handles])
    unused = {"logvar_linear.weight": torch.zeros(1, WIDTH), "y_embedder.y_embedding": torch.zeros(300, 2304)}
    moments = {"state": {0: {"exp_avg": torch.zeros(64 << 20)}}}
    torch.save({"state_dict": state | unused, "optimizer": moments, "epoch": 1}, work / "epoch_1.pth")
    attentions = [name for name in weights if ".attn" in name and ".norm" not in name and name.endswith("weight")]
    lora = {}
    for name in attentions:
        rows, columns = weights[name].shape
        layer = name.removesuffix(".weight")
        lora[f"transformer.{layer}.lora_A.weight"] = torch.randn(RANK, columns, dtype=torch.bfloat16) / 64
        lora[f"transformer.{layer}.lora_B.weight"] = torch.randn(rows, RANK, dtype=torch.bfloat16) / 64
    save_file(lora, work / "lora.safetensors")
    text = {**GEMMA_2_2B, "num_hidden_layers": 1, "intermediate_size": 256, "vocab_size": 4096}
    Gemma2Model(Gemma2Config(**text)).bfloat16().save_pretrained(work / "text_encoder")
    shutil.copytree(LONG_PREFIX, work / "tokenizer")
    blocks = ("ResBlock", "ResBlock")
    small = {"block_types": blocks, "block_out_channels": (32, 64), "layers_per_block": (1, 1), "qkv_multiscales": ((), ())}
    vae = DC_AE | {f"{half}_{key}": value for half in ("encoder", "decoder") for key, value in small.items()}
    AutoencoderDC.from_config(vae).save_pretrained(work / "vae")


def run_case(case: str, work: Path) -> dict[str, Any]:
    """Seconds of each step and peak memory in MB of this process."""
    from sprint_export.conversion import convert
    from sprint_export.nouns.parts import Lora, Parts
    from sprint_export.run_checks import load_libraries
    from sprint_export.specialize import specialize_student
    from sprint_export.students import load_student
    from sprint_export.weights import free_large_tensors_at_once

    load_libraries(lambda *_: None)
    import sprint_export.students.sana_sprint.specialized  # noqa: F401  what a run imports later

    found: dict[str, Any] = {"case": case}
    start = time.perf_counter()
    if case == "onnx-fp16":
        convert(
            work / "epoch_1.pth", case, work / "out", components=("transformer",), vae=work, text_encoder=work, validate=False
        )
        found["seconds"] = {"all": time.perf_counter() - start}
    elif case.startswith("pull"):
        free_large_tensors_at_once()
        lora = (Lora(work / "lora.safetensors"),) if "LoRA" in case else ()
        student = load_student(work / "epoch_1.pth", parts=Parts(lora, vae=work, text_encoder=work))
        loaded = time.perf_counter()
        weights = specialize_student(student).components["transformer"].weights
        specialized = time.perf_counter()
        found["values"] = sum(handle.load().numel() for handle in weights.values())
        ended = time.perf_counter()
        found["seconds"] = {"load": loaded - start, "specialize": specialized - loaded, "pull": ended - specialized}
    found["seconds"] = {name: round(value, 1) for name, value in found.get("seconds", {}).items()}
    status = Path("/proc/self/status").read_text()
    found["peak_mb"] = int(status.split("VmHWM:")[1].split()[0]) // 1024
    return found


def main() -> None:
    """Write the files once, then every case in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", type=Path)
    parser.add_argument("--case", choices=(*CASES, "files"))
    asked = parser.parse_args()
    if asked.case == "files":
        write_files(asked.work)
        return
    if asked.case:
        print(json.dumps(run_case(asked.case, asked.work)))
        return
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, __file__, "--work", work, "--case"]
        subprocess.run([*command, "files"], check=True)
        rows = [json.loads(subprocess.run([*command, case], check=True, capture_output=True).stdout) for case in CASES]
        size = (Path(work) / "epoch_1.pth").stat().st_size
    result = {"machine": describe_machine(), "file_mb": size >> 20, "rows": rows}
    (asked.out / "native_checkpoint.json").write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
