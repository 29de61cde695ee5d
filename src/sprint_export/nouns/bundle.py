"""A bundle and its manifest: frozen dataclasses that turn into JSON and back (json_forms.py), standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sprint_export.nouns.chain import Chain
from sprint_export.nouns.recipe import Decision, QuantizedLayer, Recipe
from sprint_export.nouns.student import PromptPlan, StepPlan, TensorSpec
from sprint_export.nouns.target import Options
from sprint_export.strict_json import hash_json


@dataclass(frozen=True)
class Artifact:
    """One file of a bundle that belongs to a component; `kind` is graph, shadow, weights or, for a device, engine or kernels."""

    role: str
    kind: str
    path: str
    format: str
    bytes: int
    sha256: str
    device: str | None = None  # that it was built for


@dataclass(frozen=True)
class Part:
    """One graph file of a component, in the order they run; `graph` is its path in the component's folder.

    A part's inputs are the component's inputs or outputs of parts before it.
    """

    graph: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class RuleCount:
    """How often a rewrite rule fired in a network's graph; `expected`: how often the network computes what it serves."""

    fired: int
    expected: int = 0


@dataclass(frozen=True)
class ComponentRecord:
    """What a bundle remembers of a component: its interface, how many weight values have which type, how layers are rounded.

    `rewrites` counts every rewrite rule of the target, by name.
    """

    role: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parts: tuple[Part, ...]
    precision_counts: Mapping[str, int]
    layers: Mapping[str, QuantizedLayer]
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()  # of every layer that a recipe was asked about, those left float too
    rewrites: Mapping[str, RuleCount] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A folder of files and its manifest, `bundle.json`; needs no torch and no model code to run."""

    folder: Path
    family: str
    source: str
    revision: str | None
    licence: str
    target: str
    precision: str
    device: str
    options: Options
    layout: str
    chain: Chain
    plan: StepPlan
    prompt: PromptPlan
    latent_shape: tuple[int, ...]
    components: tuple[ComponentRecord, ...]
    artifacts: tuple[Artifact, ...]
    recipe: Recipe | None
    fingerprint: str
    key: str
    tools: Mapping[str, str]
    runtimes: Mapping[str, str]  # what opens it: a library or system -> its oldest version; an engine's builder -> the only one

    @property
    def is_packed(self) -> bool:
        """Whether it holds what ships alone: no layers, no recipe, nothing that only validation reads."""
        return any(artifact.kind == "licence" for artifact in self.artifacts)

    @property
    def identity(self) -> str:
        """sha256 of its key and of every file that no device has a part in: equal for copies, and where engines were added."""
        files = sorted((a.path, a.sha256) for a in self.artifacts if a.device is None and a.kind != "app")
        return hash_json({"key": self.key, "files": files})
