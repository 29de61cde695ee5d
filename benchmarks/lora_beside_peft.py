"""LoRAs merged here beside what PEFT and LyCORIS make of the same files: every changed weight of SANA's stock transformer.

    pip install peft lycoris-lora einops   # in an environment of its own; they are no dependencies
    python benchmarks/lora_beside_peft.py --out benchmarks/results          # half a minute

PEFT injects an adapter into the stock diffusers module, gets random values for all of its tensors, saves itself as users have it
(adapter_model.safetensors, adapter_config.json) and merges (`merge_and_unload`). LyCORIS wraps the module, is saved likewise and
merges (`merge_to`). Told is the largest difference from the weights that `--lora` gives, over the largest weight, in float32.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from diffusers import SanaTransformer2DModel

from sprint_export.nouns.parts import Lora
from sprint_export.students.family import load_family
from sprint_export.students.lora import merge_lora
from sprint_export.validate.machine import describe_machine

LINEAR = r"transformer_blocks\.\d+\.attn[12]\.(to_[qkv]|to_out\.0)|time_embed\.timestep_embedder\.linear_[12]|proj_out"
CONVOLUTIONS = r"transformer_blocks\.\d+\.ff\.conv_(inverted|point)|patch_embed\.proj"
PEFT_CASES: dict[str, dict[str, Any]] = {
    "LoRA": {"r": 8, "lora_alpha": 12},
    "rsLoRA": {"r": 8, "lora_alpha": 12, "use_rslora": True},
    "DoRA": {"r": 8, "lora_alpha": 12, "use_dora": True},
    "rsLoRA with DoRA": {"r": 8, "lora_alpha": 12, "use_rslora": True, "use_dora": True},
    "ranks and alphas by pattern": {
        "r": 8,
        "lora_alpha": 12,
        "rank_pattern": {r"attn1\.to_q": 3, "proj_out": 5},
        "alpha_pattern": {r"attn\d\.to_k": 2, "linear_1": 40},
    },
}
LYCORIS_CASES: dict[str, dict[str, Any]] = {
    "LoCon": {},
    "DoRA by rows": {"dora_wd": True, "wd_on_output": True},
    "DoRA by columns": {"dora_wd": True, "wd_on_output": False},
}


def randomize(named: Any, seed: int = 0) -> None:
    """Values as large as a trained adapter's, or larger."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in named:
        if "magnitude" in name or "dora_scale" in name:
            value.data = value.data * (0.5 + torch.rand(value.shape, generator=generator))
        else:
            value.data = torch.randn(value.shape, generator=generator) * 0.3


def compare(module: torch.nn.Module, merged: torch.nn.Module, file: Path, scale: float) -> dict[str, Any]:
    """What `--lora` makes of a file, against a merged module."""
    family = load_family("sana_sprint")
    student = merge_lora(family.tiny(), family, Lora(file, scale))
    ours, theirs, before = student.components["transformer"].weights, merged.state_dict(), module.state_dict()
    off, changed = 0.0, 0
    for name, value in theirs.items():
        if name not in ours:
            continue
        off = max(off, float((ours[name].load().float() - value).abs().max() / value.abs().max()))
        changed += int(not torch.equal(value, before[name]))
    return {"weights changed": changed, "largest difference, of the largest weight": off}


def run_peft(module: SanaTransformer2DModel, settings: dict[str, Any], layers: str, work: Path, scale: float) -> dict[str, Any]:
    """One adapter of PEFT's."""
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(copy.deepcopy(module), LoraConfig(target_modules=layers, init_lora_weights=True, **settings))
    randomize((name, value) for name, value in wrapped.named_parameters() if "lora_" in name)
    wrapped.save_pretrained(work)
    for part in wrapped.modules():
        if hasattr(part, "set_scale") and hasattr(part, "scaling"):
            part.set_scale("default", scale)
    return compare(module, wrapped.merge_and_unload(), work, scale)


def run_lycoris(module: SanaTransformer2DModel, settings: dict[str, Any], work: Path) -> dict[str, Any]:
    """One network of LyCORIS', which names its layers with underscores."""
    from lycoris import LycorisNetwork, create_lycoris
    from safetensors.torch import save_file

    changed = copy.deepcopy(module)
    names = ["transformer_blocks.*.ff.conv_inverted", "transformer_blocks.*.ff.conv_point", "patch_embed.proj"]
    LycorisNetwork.apply_preset(
        {"enable_conv": True, "target_module": ["Attention", "TimestepEmbedding"], "target_name": names, "use_fnmatch": True}
    )
    network = create_lycoris(changed, 1.0, linear_dim=8, linear_alpha=12.0, conv_dim=4, conv_alpha=2.0, algo="locon", **settings)
    network.apply_to()
    randomize((name, value) for name, value in network.named_parameters() if "scalar" not in name)
    file = work / "lycoris.safetensors"
    save_file({name: value.clone().contiguous() for name, value in network.state_dict().items()}, file)
    network.restore()
    network.merge_to(1.0)
    return compare(module, changed, file, 1.0)


def read_version(name: str) -> str:
    """Of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def measure() -> dict[str, Any]:
    """All cases."""
    student = load_family("sana_sprint").tiny()
    component = student.components["transformer"]
    module = copy.deepcopy(component.module).to_empty(device="cpu").float()
    module.load_state_dict({name: component.weights[name].load().float() for name in module.state_dict()})
    found: dict[str, Any] = {}

    def note(case: str, call: Callable[[Path], dict[str, Any]]) -> None:
        with tempfile.TemporaryDirectory() as work:
            found[case] = call(Path(work))
        print(case, found[case], flush=True)

    for kind, layers in (("Linear", LINEAR), ("convolutions", CONVOLUTIONS)):
        for name, settings in PEFT_CASES.items():
            if kind != "Linear" and "rank_pattern" in settings:
                continue
            for scale in (1.0, 0.6):
                note(
                    f"PEFT, {kind}, {name}, scale {scale:g}",
                    lambda w, a=settings, b=layers, c=scale: run_peft(module, a, b, w, c),
                )
    if read_version("lycoris-lora") != "not installed":
        for name, settings in LYCORIS_CASES.items():
            note(f"LyCORIS, {name}", lambda w, a=settings: run_lycoris(module, a, w))
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    result = {
        "command": "python benchmarks/lora_beside_peft.py",
        "machine": describe_machine(),
        "versions": {name: read_version(name) for name in ("peft", "lycoris-lora", "diffusers", "torch")},
        "merged": measure(),
    }
    (args.out / "lora_beside_peft.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
