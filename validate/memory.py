"""Memory that a bundle's graphs plan, by the shapes they declare: nothing is run. No torch."""

from __future__ import annotations

from sprint_export.export.bundle import locate
from sprint_export.export.graph_memory import count_live
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.target import DYNAMIC

FORMAT = "onnx"  # that can be read so
NOTE = "weights, and the most that results hold at once by the graph's shapes; without a runtime's own"


def plan_memory(bundle: Bundle) -> list[Measurement]:
    """A row of each network, in 10^6 bytes; none where its graphs are of another format, or their sizes are free."""
    if bundle.options.get(DYNAMIC):
        return []
    planned = ((record.role, _plan_network(bundle, record)) for record in bundle.components)
    return [Measurement("planned_mb", size / 1e6, "MB", role, note=NOTE) for role, size in planned if size is not None]


def _plan_network(bundle: Bundle, record: ComponentRecord) -> int | None:
    """Bytes of its weights and of the largest of its parts; None where they cannot be counted."""
    files = [a for a in bundle.artifacts if a.role == record.role and a.kind in ("graph", "weights")]
    graphs = [artifact.path for artifact in files if artifact.kind == "graph" and artifact.format == FORMAT]
    live = [count_live(locate(bundle, path)) for path in graphs]
    known = [size for size in live if size is not None]
    if not live or len(known) < len(live):
        return None
    return sum(artifact.bytes for artifact in files) + max(known)
