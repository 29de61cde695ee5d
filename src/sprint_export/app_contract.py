"""What an app needs to draw from a bundle, and nothing else: the content of `app.json`, from the manifest alone.

An app in any language reads this one file, ships the files it lists, and draws the picture that this package draws. Nothing of
it is left to guess: which graphs run in which order, what a prompt goes through on its way to ids, the sampler's formula with its
times, the noise of a seed, how values become pixels. docs/bundle.md explains it, app.schema.json is its schema.

Of a bundle's files those ship that a graph's runtime opens (kinds `graph`, `weights`, `package`), the tokenizer, and what a
packed folder says of licences. Engines stand beside them: an app takes its device's, or the graph. A network that another one
replaces does not run, and does not ship.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sprint_export.bundle_files import LICENCES, REFERENCE, TOKENIZER
from sprint_export.noise import GENERATOR
from sprint_export.nouns.bundle import Artifact, Bundle, ComponentRecord, Part
from sprint_export.nouns.student import PromptPlan, StepPlan, TensorSpec
from sprint_export.sizes import PictureSizes, find_sizes

FORMAT = 1
SHIPPED = ("graph", "weights", "package")  # kinds of files that a runtime opens
_SPACES = (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
STRIPPED = "".join(map(chr, _SPACES))  # what str.strip() takes off
_STEM_END = re.compile(r"[.-]")  # of model.onnx, model.onnx.data, and model-00001-of-00002.onnx.data
Json = dict[str, Any]


def describe_app(bundle: Bundle, ending: int = 0, examples: Sequence[str] = ()) -> Json:
    """The value of `app.json`.

    Args:
        bundle: with all networks that a picture takes.
        ending: how many ids its tokenizer puts behind a text: where a text is cut they stay.
        examples: prompts that it draws well.

    Raises:
        BundleError: a network is missing, or they do not fit each other.
    """
    sizes = find_sizes(bundle)
    networks = list_running(bundle)
    graphs = {record.role: [_describe_graph(bundle, record, part) for part in record.parts] for record in networks}
    shipped = {path for parts in graphs.values() for graph in parts for path in graph["files"]} | {TOKENIZER, LICENCES}
    files = {artifact.path: artifact for artifact in bundle.artifacts if artifact.path in shipped}
    has_reference = any(artifact.path == REFERENCE for artifact in bundle.artifacts)
    return {
        "format": FORMAT,
        "name": _name_source(bundle.source),
        "licence": bundle.licence,
        "target": f"{bundle.target}-{bundle.precision}",
        "size": list(sizes.pixels),
        "runtimes": dict(bundle.runtimes),
        "files": [_describe_file(files[path]) for path in sorted(files)],
        "networks": {role: {"graphs": parts} for role, parts in graphs.items()},
        "stages": _describe_stages(bundle, networks),
        "values": {name: value for name, value in vars(bundle.chain.names).items() if value},
        "prompt": _describe_prompt(bundle.prompt, ending),
        "sampler": _describe_sampler(bundle.plan),
        "noise": {"generator": GENERATOR, "variance": 1, "shape": list(bundle.latent_shape)},
        "picture": {"layout": "NCHW RGB", "range": [-1, 1], "rounding": "half to even"},
        "sizes": _describe_sizes(sizes),
        "examples": list(examples),
        "reference": REFERENCE if has_reference else None,
    }


def list_running(bundle: Bundle) -> list[ComponentRecord]:
    """The networks that draw, in order: those that are there and that no other one replaces."""
    records = {record.role: record for record in bundle.components}
    return [records[stage.role] for group in bundle.chain.group(records) for stage in group]


def _describe_stages(bundle: Bundle, networks: list[ComponentRecord]) -> list[Json]:
    stages = {stage.role: stage for stage in bundle.chain.stages}
    found: list[Json] = []
    for record in networks:
        stage = stages[record.role]
        found.append({"network": stage.role, "when": stage.when} | ({"optional": True} if stage.optional else {}))
    return found


def _describe_graph(bundle: Bundle, record: ComponentRecord, part: Part) -> Json:
    mine = [artifact for artifact in bundle.artifacts if artifact.role == record.role]
    prefix = f"{record.role}/"
    files = [artifact for artifact in mine if artifact.kind in SHIPPED and _belongs(artifact.path.removeprefix(prefix), part)]
    graph = next(artifact for artifact in files if artifact.path == prefix + part.graph)
    engines = [_describe_engine(bundle, artifact) for artifact in mine if artifact.kind == "engine"]
    described: Json = {
        "path": prefix + part.graph.partition("/")[0],  # a package is opened by its folder
        "format": graph.format,
        "files": sorted(artifact.path for artifact in files),
        "inputs": [_describe_spec(spec) for spec in part.inputs],
        "outputs": [_describe_spec(spec) for spec in part.outputs],
    }
    return described | ({"engines": engines} if engines else {})


def _belongs(path: str, part: Part) -> bool:
    """Whether a file of a network's folder is one of a part's: in its package, or beside its graph under the same name."""
    top, is_package, _ = part.graph.partition("/")
    if is_package:
        return path.startswith(f"{top}/")
    return "/" not in path and _STEM_END.split(path)[0] == _STEM_END.split(top)[0]


def _describe_file(artifact: Artifact) -> Json:
    return {"path": artifact.path, "bytes": artifact.bytes, "sha256": artifact.sha256}


def _describe_engine(bundle: Bundle, artifact: Artifact) -> Json:
    version = bundle.runtimes.get(artifact.format)
    return _describe_file(artifact) | {"device": artifact.device, "builder": artifact.format, "version": version}


def _describe_spec(spec: TensorSpec) -> Json:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape), "meaning": spec.meaning}


def _describe_prompt(plan: PromptPlan, ending: int) -> Json:
    """The steps of prompt_reader.PromptReader, in order."""
    held = len(plan.prefix_ids)
    longer: Json = {"do": "refuse longer", "tokens": plan.tokens}
    steps: list[Json] = [
        *([{"do": "lower"}] if plan.lower else []),
        *([{"do": "strip", "characters": STRIPPED}] if plan.strips else []),
        {"do": "wrap", "prefix": plan.prefix, "suffix": plan.suffix},
        {"do": "tokenize", "file": TOKENIZER},
        {"do": "cut", "tokens": plan.tokens, "keep_last": ending} if plan.cuts else longer,
        *([{"do": "check prefix", "ids": list(plan.prefix_ids)}] if held else []),
        {"do": "pad", "tokens": plan.tokens, "id": plan.pad_id},
        *([{"do": "drop", "first": held}] if held else []),
    ]
    kept = [*([[0, 1]] if plan.keeps_first else []), [plan.before, plan.tokens]]
    if plan.keeps_first and plan.before <= 1:
        kept = [[0, plan.tokens]]
    return {"steps": steps, "mask": {"tokens": plan.tokens, "kept": kept}, "vocabulary": plan.vocabulary}


def _describe_sampler(plan: StepPlan) -> Json:
    """The formula of sampler.sample, and the times and rows of each schedule."""
    counts = plan.counts or (len(plan.times),)
    schedules = {}
    for count in counts:
        rows = plan.rows(count)
        schedules[str(count)] = {"times": list(plan.list_weights(rows)), "rows": list(rows)}
    return {
        "start": "noise" if plan.starts_from_noise else "s0*noise",
        "start_from_picture": "(1 - s0)*z + s0*noise",
        "next": "(1 - s)*x0 + s*noise",
        "default_steps": plan.steps,
        "schedules": schedules,
    }


def _describe_sizes(sizes: PictureSizes) -> Json | None:
    """Of what multiples pictures and noise are where their axes are free (sizes.py); None: there is one size."""
    if all(isinstance(size, int) for size in sizes.state):
        return None
    return {"noise": list(sizes.state), "picture": list(sizes.picture)}


def _name_source(source: str) -> str:
    """A hub id or a name as it is; of a folder elsewhere its name alone: where somebody kept it is nothing to an app."""
    if re.match(r"[/\\.~]|[A-Za-z]:[\\/]", source) is None:
        return source
    return re.split(r"[\\/]", source.rstrip("\\/"))[-1] or "student"


def find_ending(app: Mapping[str, Any]) -> int:
    """How many ids the tokenizer puts behind a text, by a description: no manifest says it."""
    return next((step["keep_last"] for step in app["prompt"]["steps"] if step["do"] == "cut"), 0)
