"""What a manifest may say: one rule a function, ranges first, then how its parts fit each other.

The hash of a manifest says that it is as its maker wrote it, not that its maker meant well. So a bundle that was changed and
signed again meets these rules too, and what they let through can be drawn or ends in one line. They are asked when a bundle is
written and when it is read. Whether graphs keep what specs say, runtimes ask when they open them (runtimes/interfaces.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import TOKENIZER
from sprint_export.devices import list_devices
from sprint_export.errors import SprintExportError
from sprint_export.export.chain_checks import OTHER_OWNERS, check_chain, check_interfaces
from sprint_export.export.layer_checks import check_layers, check_recipe
from sprint_export.export.manifest_faults import ManifestError, demand, demand_range
from sprint_export.export.safe_files import find_path_fault
from sprint_export.export.tensor_checks import check_parts
from sprint_export.json_forms import to_json
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import CHANNELS_FIRST, CHANNELS_LAST
from sprint_export.options import complete_options
from sprint_export.registry import list_members, load_target

__all__ = ["ManifestError", "check_manifest"]

MOST_STEPS = 4  # of a distilled student's schedule
LATEST_TIME = 1.01  # a flow time of pure noise is 1; some schedules begin a hair above
LARGEST_GUIDANCE = 1e4
MOST_TOKENS = 1 << 16
MOST_WORDS = 1 << 22  # of a vocabulary; large ones have 2^18
MOST_LETTERS = 1 << 18  # of one text
MOST_ARTIFACTS = 4096
MOST_RUNTIMES = 16
MOST_REWRITES = 1 << 20  # of one rule in one graph
LARGEST_FILE = 1 << 42
DTYPES = ("float32", "float16", "bfloat16")  # of the constants of a step plan
KINDS = ("graph", "shadow", "weights", "edits", "package", "tokenizer", "config", "frontier", "app", "reference", "licence")
DEVICE_KINDS = ("engine", "kernels")  # built for a device
ONE_OF_A_ROLE = ("shadow", "edits", "app", "licence", *DEVICE_KINDS)
PROSE = ("prefix", "suffix", "licence", "meaning", "notes", "note", "reason", "prompts")  # fields that may have several lines
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,8}(\.[0-9A-Za-z]{1,16}){0,6}([-+][0-9A-Za-z.-]{1,64})?")
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # control characters, line ends, half letters


def check_manifest(bundle: Bundle) -> None:
    """Every rule in turn.

    Raises:
        ManifestError: the first that is broken: what was found, what is expected.
    """
    for check in (
        check_texts,
        check_names,
        check_rewrites,
        check_options,
        check_runtimes,
        check_plan,
        check_prompt,
        check_chain,
        check_artifacts,
        check_tokenizer,
        check_interfaces,
        check_parts,
        check_layers,
        check_recipe,
    ):
        check(bundle)


def check_texts(bundle: Bundle) -> None:
    """Texts for people and tokenizers may have lines and tabs, names nothing that cannot be printed; none is without end."""
    for where, text in _list_texts(to_json(replace(bundle, folder=Path())), ""):
        _check_text(where, text)


def _check_text(where: str, text: str) -> None:
    demand(len(text) <= MOST_LETTERS, where, f"{len(text)} letters", f"at most {MOST_LETTERS}")
    is_prose = where.rpartition(".")[2] in PROSE
    found = next((letter for letter in _ODD.findall(text) if not (is_prose and letter in "\n\t\r")), None)
    demand(found is None, where, f"the character {found!r}", "letters that can be printed")


def _list_texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Where a text stands, and the text; keys are names."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"a name in {where or 'the manifest'}", key
            yield from _list_texts(item, f"{where}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for item in value:
            yield from _list_texts(item, where)


def check_names(bundle: Bundle) -> None:
    """Family, target, precision, device and layout are known here, and the precision is one of the target's."""
    devices = [device.name for device in list_devices()]
    for what, name, known in (
        ("family", bundle.family, list(list_members("student"))),
        ("target", bundle.target, list(list_members("target"))),
        ("device", bundle.device, devices),
        ("layout", bundle.layout, [CHANNELS_LAST, CHANNELS_FIRST]),
    ):
        demand(name in known, what, repr(name), f"one of {', '.join(known)}")
    precisions = load_target(bundle.target).precisions
    demand(bundle.precision in precisions, "precision", repr(bundle.precision), f"one of {', '.join(precisions)}")


def check_rewrites(bundle: Bundle) -> None:
    """What fired in a graph is a rule of the target, some number of times."""
    known = load_target(bundle.target).rewrites
    for record in bundle.components:
        for name, count in record.rewrites.items():
            demand(name in known, f"{record.role}.rewrites", repr(name), f"one of {', '.join(known) or '(none)'}")
            for field, value in (("fired", count.fired), ("expected", count.expected)):
                demand_range(f"{record.role}.rewrites.{name}.{field}", value, 0, MOST_REWRITES)


def check_options(bundle: Bundle) -> None:
    """The target declares these options: asking it to complete them changes nothing."""
    device = next(device for device in list_devices() if device.name == bundle.device)
    try:
        completed = complete_options(load_target(bundle.target), bundle.precision, device, bundle.options)
    except SprintExportError as error:
        raise ManifestError(f"options: {error}") from error
    demand(completed == bundle.options, "options", bundle.options, repr(completed))


def check_runtimes(bundle: Bundle) -> None:
    """What opens the files: a few names, each with a version that can be compared."""
    demand(len(bundle.runtimes) <= MOST_RUNTIMES, "runtimes", len(bundle.runtimes), f"at most {MOST_RUNTIMES}")
    for name, version in bundle.runtimes.items():
        demand(_VERSION.fullmatch(version) is not None, f"runtimes.{name}", repr(version), "a version, e.g. 1.22.0")


def check_plan(bundle: Bundle) -> None:
    """One to four schedules of one to four times each, every one falling from at most `LATEST_TIME` and never reaching 0."""
    plan = bundle.plan
    demand(math.isfinite(plan.guidance) and abs(plan.guidance) <= LARGEST_GUIDANCE, "plan.guidance", plan.guidance, "a number")
    demand(plan.dtype in DTYPES, "plan.dtype", repr(plan.dtype), f"one of {', '.join(DTYPES)}")
    counts = plan.counts or (len(plan.times),)
    demand(len(counts) <= MOST_STEPS and len(set(counts)) == len(counts), "plan.counts", _show(counts), "each count once")
    demand(all(1 <= n <= MOST_STEPS for n in counts), "steps", _show(counts), f"1 to {MOST_STEPS} of each schedule")
    demand(sum(counts) == len(plan.times), "plan.counts", _show(counts), f"a sum of {len(plan.times)}, as many as times")
    for start, count in zip((sum(counts[:i]) for i in range(len(counts))), counts, strict=True):
        times = plan.times[start : start + count]
        demand(all(0 < s <= LATEST_TIME for s in times), "plan.times", _show(times), f"numbers above 0 up to {LATEST_TIME}")
        demand(all(a > b for a, b in pairwise(times)), "plan.times", _show(times), "falling times")


def check_prompt(bundle: Bundle) -> None:
    """Lengths fit each other, and every id is one of the vocabulary."""
    prompt = bundle.prompt
    demand_range("prompt.tokens", prompt.tokens, 2, MOST_TOKENS)
    demand_range("prompt.keep", prompt.keep, 2, prompt.tokens)
    demand_range("prompt.vocabulary", prompt.vocabulary, 1, MOST_WORDS)
    for what, ids in (("prompt.pad_id", (prompt.pad_id,)), ("prompt.prefix_ids", prompt.prefix_ids)):
        for one in ids:
            demand_range(what, one, 0, prompt.vocabulary - 1)
    held = len(prompt.prefix_ids)
    demand(held in (0, prompt.before), "prompt.prefix_ids", f"{held} ids", f"none, or the {prompt.before} before the last")


def check_artifacts(bundle: Bundle) -> None:
    """Every file once a kind, by a name all systems can hold, with a size and a hash that do not contradict each other."""
    demand(len(bundle.artifacts) <= MOST_ARTIFACTS, "artifacts", len(bundle.artifacts), f"at most {MOST_ARTIFACTS}")
    devices = {None, *(device.name for device in list_devices())}
    owners = (*bundle.chain.roles, *OTHER_OWNERS)
    facts: dict[str, tuple[int, str]] = {}
    for artifact in bundle.artifacts:
        fault = find_path_fault(artifact.path)
        if fault is not None:
            raise ManifestError(f"it names {artifact.path!r}, which {fault}; do not use this bundle")
        kinds = KINDS if artifact.device is None else DEVICE_KINDS
        demand(artifact.kind in kinds, f"the kind of {artifact.path}", repr(artifact.kind), f"one of {', '.join(kinds)}")
        demand(artifact.device in devices, f"the device of {artifact.path}", repr(artifact.device), "a known device, or none")
        demand(artifact.role in owners, f"the role of {artifact.path}", repr(artifact.role), f"one of {', '.join(owners)}")
        demand_range(f"the size of {artifact.path}", artifact.bytes, 0, LARGEST_FILE)
        demand(
            _SHA256.fullmatch(artifact.sha256) is not None, f"the sha256 of {artifact.path}", repr(artifact.sha256), "64 digits"
        )
        known = facts.setdefault(artifact.path, (artifact.bytes, artifact.sha256))
        demand(known == (artifact.bytes, artifact.sha256), artifact.path, "two sizes or hashes", "one of each")
    _check_unique(bundle)


def _check_unique(bundle: Bundle) -> None:
    twice = [triple for triple, n in Counter((a.path, a.kind, a.device) for a in bundle.artifacts).items() if n > 1]
    demand(not twice, "artifacts", f"{twice[0][0]} twice as {twice[0][1]}" if twice else "", "each file once a kind")
    alike = [name for name, n in Counter(path.casefold() for path in {a.path for a in bundle.artifacts}).items() if n > 1]
    demand(not alike, "artifacts", f"{alike[0]} in two spellings" if alike else "", "names that differ by more than case")
    kinds = Counter((a.role, a.kind, a.device) for a in bundle.artifacts if a.kind in ONE_OF_A_ROLE)
    more = [pair for pair, n in kinds.items() if n > 1]
    demand(not more, "artifacts", f"more than one {more[0][1]} of {more[0][0]}" if more else "", "one")


def check_tokenizer(bundle: Bundle) -> None:
    """A bundle with a network that reads ids names its tokenizer."""
    if any(spec.name == bundle.chain.names.ids for record in bundle.components for spec in record.inputs):
        demand(any(a.path == TOKENIZER for a in bundle.artifacts), "artifacts", f"no {TOKENIZER}", "the tokenizer among them")


def _show(values: Any) -> str:
    """A few of them."""
    shown = ", ".join(str(value) for value in list(values)[:8])
    return f"[{shown}{', ...' if len(values) > 8 else ''}]"
