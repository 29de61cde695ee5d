"""On which execution providers the nodes of a graph ran: counted from ONNX Runtime's profile of one run.

A provider takes the nodes that it has kernels for, and ONNX Runtime gives the rest to its CPU kernels without a word. What it
says of the placement before a run (`get_provider_graph_assignment_info`, from 1.24 on) leaves nodes out where a provider has
the graph's layout changed: 1.27 named 28 of sprint-tiny's 439 on WebGPU. A profile is there from 1.21 on and has every node
that ran; a provider that compiles a part of the graph shows it as one node.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Placement:
    """Nodes that ran: how many on each provider (ONNX Runtime's names), and of those on the CPU how many of each operator."""

    nodes: Mapping[str, int]
    on_cpu: Mapping[str, int]

    @property
    def total(self) -> int:
        """All nodes."""
        return sum(self.nodes.values())

    def count(self, library: str) -> int:
        """Nodes on one provider."""
        return self.nodes.get(library, 0)


def read_placement(profile: Path) -> Placement:
    """What a profile of one run says."""
    nodes, on_cpu = Counter[str](), Counter[str]()
    for event in json.loads(profile.read_text("utf-8")):
        told = event.get("args", {})
        if event.get("cat") != "Node" or not event.get("name", "").endswith("_kernel_time") or "provider" not in told:
            continue
        nodes[told["provider"]] += 1
        if told["provider"] == "CPUExecutionProvider":
            on_cpu[told.get("op_name", "?")] += 1
    return Placement(dict(nodes), dict(on_cpu.most_common()))
