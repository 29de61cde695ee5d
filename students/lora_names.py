"""Names in a LoRA's file: which tensor is what of which layer's change, whoever's trainer wrote it.

| written by | factors | magnitude | layer |
|---|---|---|---|
| PEFT | `lora_A`, `lora_B`, an adapter's name behind or not | `lora_magnitude_vector` | dotted, behind wrappers' prefixes |
| diffusers | the same; `lora.down`, `lora.up` before | the same | dotted, behind the network's name |
| kohya's scripts, LyCORIS | `lora_down`, `lora_up`, `alpha` | `dora_scale` | underscores for dots, behind `lora_unet_` |

A name with underscores says no layer by itself: `Layers.find` looks it up among the student's own names, written likewise. Two of
them that read the same are refused, and so is one that reads like none.
Sources: PEFT's get_peft_model_state_dict; diffusers' lora_conversion_utils; sd-scripts' networks/lora.py; LyCORIS' locon.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sprint_export.errors import InputError, nearest_name
from sprint_export.nouns.parts import Lora
from sprint_export.students.family import Family
from sprint_export.weights import Handle

TAKEN = "LoRA, rsLoRA or DoRA under the names of PEFT, diffusers or kohya's scripts"
WRAPPERS = ("base_model.model.", "module.", "diffusion_model.", "model.diffusion_model.")
INNER = ("model.", "language_model.", "model.language_model.", "text_model.")  # of a text encoder inside its whole model
TEXT = "text_encoder"  # as pipelines call it
DEFAULT = "default"  # the adapter that counts
DENOISER_PREFIXES, TEXT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_"), ("lora_te_", "lora_te1_")
Tensors = dict[str, Handle]  # of one layer: down, up, magnitude or dora_scale
_FLAT = re.compile(r"(lora_[a-z]+\d?|lycoris)_[^.]+")
_TENSOR = re.compile(
    r"(?P<layer>.+?)\."
    r"(?:lora_(?P<side>[AB]|down|up)(?:\.(?P<adapter>[^.]+))?\.weight"
    r"|lora\.(?P<dotted>down|up)(?:\.(?P<other>[^.]+))?\.weight"
    r"|lora_magnitude_vector(?:\.(?!weight$)(?P<measured>[^.]+))?(?:\.weight)?"
    r"|(?P<scaled>dora_scale)"
    r"|(?P<alpha>alpha))"
)
FOREIGN = {  # how a name looks -> what it is of
    r"\.hada_[wt]\d": "LoHa (LyCORIS)",
    r"\.lokr_[wt]\d": "LoKr (LyCORIS)",
    r"\.oft_|\.boft_|\.hra_": "OFT or BOFT",
    r"\.[abc][12]\.weight$": "GLoRA (LyCORIS)",
    r"\.lora_mid\.": "a LoRA in Tucker's form (lora_mid)",
    r"\.wd_for_diff$": "DoRA of the change alone (wd_for_diff)",
    r"\.diff(_b)?$|\.[wb]_norm$": "whole differences (LyCORIS' full)",
    r"\.ia3_|\.on_input$": "(IA)3",
    r"\.lora_E$|\.lora_E\.|\.ranknum": "AdaLoRA",
    r"lora_embedding_[AB]": "a LoRA of an embedding",
    r"\.lora_[AB](\.\w+)?\.bias$": "a LoRA whose factors have a bias (lora_bias)",
    r"\.(vera_lambda|fourierft_|vblora_|randlora_|bone_|miss_|shira_|road_|c3a_|delora_)": "another method of PEFT's",
}


@dataclass(frozen=True)
class Change:
    """What a file says of one layer: factors A and B, its own alpha, DoRA's magnitude.

    A magnitude of PEFT's runs along rows, in several shapes; LyCORIS' along rows or columns, as its shape says.
    """

    down: Handle
    up: Handle
    alpha: float | None = None
    magnitude: Handle | None = None
    is_by_rows: bool = False


@dataclass(frozen=True)
class Contents:
    """A file's changes by layer, as it calls them, and its other tensors: whole weights that take the place of the student's."""

    changes: Mapping[str, Change]
    plain: Mapping[str, Handle]


def refuse(lora: Lora, said: str, names: list[str], expected: str) -> InputError:
    """An error about a LoRA's tensors or layers; the first three are named."""
    shown = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
    return InputError(f"--lora {lora.said} {said}: {shown or 'nothing'}; expected {expected}")


def strip_wrappers(name: str) -> str:
    """A layer's name without the prefixes that training and other tools put before it."""
    while found := next((prefix for prefix in WRAPPERS if name.startswith(prefix)), None):
        name = name.removeprefix(found)
    return name


def sort_tensors(lora: Lora, handles: Mapping[str, Handle]) -> Contents:
    """A file's tensors by what they are; of several adapters `default` counts.

    Raises:
        InputError: another method's tensors, no LoRA, several adapters and none of that name, half of a pair, a magnitude or an
            alpha without a pair, or the same twice.
    """
    _check_kinds(lora, handles)
    adapters: dict[str, dict[str, Tensors]] = {}
    alphas: dict[str, float] = {}
    plain: dict[str, Handle] = {}
    for name, handle in handles.items():
        match = _TENSOR.fullmatch(name)
        if match is None or (match["alpha"] and math.prod(handle.shape) != 1):
            plain[name] = handle
        elif match["alpha"]:
            alphas[match["layer"]] = float(handle.load())
        else:
            adapter = adapters.setdefault(match["adapter"] or match["other"] or match["measured"] or "", {})
            layer = adapter.setdefault(match["layer"], {})
            if layer.setdefault(_name_part(match), handle) is not handle:
                raise refuse(lora, "has a tensor under two spellings", [name], "each once")
    if not any("down" in layer or "up" in layer for adapter in adapters.values() for layer in adapter.values()):
        raise refuse(lora, "holds no LoRA", sorted(handles), f"{TAKEN}, e.g. <layer>.lora_A.weight and <layer>.lora_B.weight")
    return Contents(_pair(lora, _choose_adapter(lora, adapters), alphas), plain)


def _check_kinds(lora: Lora, handles: Mapping[str, Handle]) -> None:
    for pattern, kind in FOREIGN.items():
        if found := [name for name in handles if re.search(pattern, name)]:
            merged = "merge it into its checkpoint with the tool that made it"
            raise refuse(lora, f"holds {kind}, which is not taken", found, f"{TAKEN}; {merged}")


def _name_part(match: re.Match[str]) -> str:
    if side := match["side"] or match["dotted"]:
        return "down" if side in ("A", "down") else "up"
    return "dora_scale" if match["scaled"] else "magnitude"


def _choose_adapter(lora: Lora, adapters: Mapping[str, dict[str, Tensors]]) -> dict[str, Tensors]:
    if len(adapters) > 1 and DEFAULT not in adapters:
        found = sorted(name or "(no name)" for name in adapters)
        raise refuse(lora, f"has several adapters and none named {DEFAULT}", found, "one of them; save it alone, or rename it")
    return adapters[DEFAULT] if DEFAULT in adapters else next(iter(adapters.values()))


def _pair(lora: Lora, found: Mapping[str, Tensors], alphas: Mapping[str, float]) -> dict[str, Change]:
    if halves := [layer for layer, parts in found.items() if ("down" in parts) != ("up" in parts)]:
        raise refuse(lora, "has one factor only of layers", halves, "both A and B (lora_down and lora_up)")
    paired = {layer: parts for layer, parts in found.items() if "down" in parts}
    if loose := sorted({*found, *alphas} - set(paired)):
        raise refuse(lora, "has an alpha or a magnitude without A and B of layers", loose, "both factors beside it")
    if double := [layer for layer, parts in paired.items() if len(parts) > 3]:
        raise refuse(lora, "has two magnitudes of layers", double, "lora_magnitude_vector or dora_scale")
    return {
        layer: Change(
            parts["down"], parts["up"], alphas.get(layer), parts.get("magnitude", parts.get("dora_scale")), "magnitude" in parts
        )
        for layer, parts in paired.items()
    }


@dataclass
class Layers:
    """The layers of a student that names of a LoRA can lead to: weights by role, names as the stock modules have them."""

    family: Family
    weights: Mapping[str, Mapping[str, Handle]]
    _flat: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def find(self, lora: Lora, layer: str) -> tuple[str, str] | None:
        """Role and name there of a layer's weight; None where the student has none of that name.

        Raises:
            InputError: a name with underscores reads like several layers.
        """
        if not is_flat(layer):
            return self.find_weight(f"{layer}.weight")
        role, wanted = self._read_flat(layer)
        flat = self._flatten(role)
        found = next((flat[each] for each in _unwrap(role, wanted, "_") if each in flat), [])
        if len(found) > 1:
            dotted = "dots in its place, as PEFT writes them"
            raise refuse(lora, f"has {layer}, whose underscores read like several layers", found, dotted)
        return (role, f"{found[0]}.weight") if found else None

    def find_weight(self, name: str) -> tuple[str, str] | None:
        """The same of a weight's whole name, with dots."""
        role, inner = self.family.find_lora_layer(strip_wrappers(name).replace(".base_layer.", "."))
        found = next((each for each in _unwrap(role, inner, ".") if each in self.weights.get(role, {})), None)
        return None if found is None else (role, found)

    def suggest(self, layer: str) -> str:
        """What the student has that is spelt most like a layer which it has not."""
        role, wanted = self._read_flat(layer) if is_flat(layer) else self.family.find_lora_layer(strip_wrappers(layer))
        flat = self._flatten(role)
        near = nearest_name(wanted.replace(".", "_"), flat) or next(iter(flat), None)
        return f"layers of {', '.join(self.weights)}" + ("" if near is None else f", such as {role}.{flat[near][0]}")

    def _read_flat(self, name: str) -> tuple[str, str]:
        """Role and the rest of a name with underscores; "" where the student has no such network."""
        denoiser = self.family.find_lora_layer("layer")[0]
        known = dict.fromkeys(DENOISER_PREFIXES, denoiser) | dict.fromkeys(TEXT_PREFIXES, TEXT)
        known |= {f"lora_{role}_": role for role in self.weights}
        prefix = next((prefix for prefix in known if name.startswith(prefix)), "")
        return known.get(prefix, ""), name.removeprefix(prefix)

    def _flatten(self, role: str) -> Mapping[str, list[str]]:
        """A role's layers by their names with underscores."""
        if role not in self._flat:
            flat = self._flat[role] = {}
            for layer in _list_layers(self.weights.get(role, {})):
                flat.setdefault(layer.replace(".", "_"), []).append(layer)
        return self._flat[role]


def is_flat(name: str) -> bool:
    """Whether underscores stand for dots in a layer's name."""
    return _FLAT.fullmatch(name) is not None


def _list_layers(weights: Mapping[str, Handle]) -> Iterator[str]:
    return (name.removesuffix(".weight") for name, each in weights.items() if name.endswith(".weight") and len(each.shape) > 1)


def _unwrap(role: str, name: str, dot: str) -> tuple[str, ...]:
    """A name, and of a text encoder the same without what stands before it in the whole language model."""
    inner = (prefix.replace(".", dot) for prefix in INNER) if role == TEXT else ()
    return name, *(name.removeprefix(prefix) for prefix in inner if name.startswith(prefix))
