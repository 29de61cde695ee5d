"""How ONNX files are packed: one file a network where its loader takes it, else weights beside in files of a size.

Weights are streamed: what is in memory is the graph, and one tensor. Beside the graph they stand in the order in which the graph
names them, dense; a tensor that is larger than a file may be has one of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
from onnx_ir import external_data

from sprint_export.errors import BundleError, RefusedError
from sprint_export.export.bundle import find_file, locate
from sprint_export.export.packing.packer import Layout, Packer, list_shipped
from sprint_export.export.to_onnx.one_graph import OneStep, join_graphs
from sprint_export.export.to_onnx.single_file import Span, count_bytes, hash_graph, write_single_file
from sprint_export.libraries import hush
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.chain import Stage

GRAPH = "model.onnx"
DATA = "model.onnx.data"
INLINE_BYTES = 1024  # as the exporter: smaller tensors are a part of the graph


class OnnxPacker(Packer):
    """Graphs are written anew; engines, where there are some, are copied."""

    needs = ("onnx", "onnx_ir")

    def pack_network(self, bundle: Bundle, record: ComponentRecord, layout: Layout, folder: Path) -> None:
        """One graph a network; what it computes is compared with the bundle's, value by value of every weight."""
        path = locate(bundle, f"{record.role}/{record.parts[0].graph}")
        _write_model(_load_model(bundle, record.role), layout, folder)
        if hash_graph(folder / GRAPH) != hash_graph(path):
            raise BundleError(f"{path} changed while it was packed, or the disk is failing; run the same command again")
        for artifact in list_shipped(bundle, record.role):
            if artifact.kind not in ("graph", "weights"):
                shutil.copyfile(locate(bundle, artifact.path), folder / Path(artifact.path).name)

    def join_networks(self, bundle: Bundle, stages: Sequence[Stage], layout: Layout, folder: Path) -> None:
        """All networks in one `model.onnx`."""
        row = bundle.plan.rows(1)[0]
        step = OneStep(1.0 if bundle.plan.starts_from_noise else bundle.plan.list_weights([row])[0], row)
        models = {stage.role: _load_model(bundle, stage.role) for stage in stages}
        _write_model(join_graphs(stages, models, bundle.chain.names, step), layout, folder)


PACKER = OnnxPacker()


def _load_model(bundle: Bundle, role: str) -> ir.Model:
    """A network's graph, its weights where they lie: in files that the manifest names.

    Raises:
        BundleError: it reads another file, or is none.
    """
    path = locate(bundle, f"{role}/{GRAPH}")
    try:
        model = ir.load(path)
    except Exception as error:  # protobuf's and onnx_ir's own, a dozen kinds for what is no graph
        raise BundleError(f"{path} cannot be read as an ONNX graph ({str(error)[:200]}); export the student again") from error
    tensors = [value.const_value for graph in model.graphs() for value in graph.initializers.values()]
    for tensor in tensors:
        if isinstance(tensor, ir.ExternalTensor) and find_file(bundle, f"{role}/{Path(tensor.location).as_posix()}") is None:
            raise BundleError(
                f"{bundle.folder}/{role}/{GRAPH} reads weights from {tensor.location!r}, which the manifest does not name; do "
                "not use this bundle"
            )
    return model


def _write_model(model: ir.Model, layout: Layout, folder: Path) -> None:
    """One file, or a graph and files of weights beside it.

    Raises:
        RefusedError: a tensor alone is longer than the destination takes.
    """
    destination, proto = layout.destination, ir.to_proto(model)
    spans = {
        name: Span(Path(tensor.path), tensor.offset or 0, tensor.nbytes)
        for name, value in model.graph.initializers.items()
        if isinstance(tensor := value.const_value, ir.ExternalTensor)
    }
    if not layout.shard_bytes and count_bytes(proto, spans) <= destination.inline_bytes:
        write_single_file(proto, spans, folder / GRAPH)
        return
    longest = max((span.length for span in spans.values()), default=0)
    if destination.longest_file and longest > destination.longest_file:
        name = next(name for name, span in spans.items() if span.length == longest)
        raise RefusedError(
            f"the weight {name!r} has {longest:,} bytes, and no file for {destination.name} may have more than "
            f"{destination.longest_file:,}: export the student in fewer bits"
        )
    limit = layout.shard_bytes or destination.shard_bytes or None
    with hush():  # it warns of a tensor that is larger than a shard: what has a file of its own is seen in the list
        shards = external_data.unload_from_model(
            model, folder, DATA, size_threshold_bytes=INLINE_BYTES, max_shard_size_bytes=limit
        )
    ir.save(shards, folder / GRAPH)
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
