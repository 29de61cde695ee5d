"""What other libraries say of the metrics' made pictures and weights; writes tests/validate/image_metrics/other_libraries.json.

    pip install torchvision lpips==0.1.4 DISTS-pytorch==0.1 torch-fidelity==0.4.0 pytorch-fid==0.3.0      # of torch's own build
    python benchmarks/ask_metric_libraries.py

They all need torchvision, whose wheels fit one build of torch only: none is a dependency, and their figures are kept as a file.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import DISTS_pytorch.DISTS_pt as dists_pytorch
import lpips
import numpy as np
import torch
import torchmetrics.functional.image.dists as torchmetrics_dists
import torchvision
from pytorch_fid.fid_score import calculate_frechet_distance
from torchmetrics.functional.image.lpips import _LPIPS
from torchmetrics.image.fid import NoTrainInceptionV3

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.validate.image_metrics.made_weights import make_features, make_pictures, make_state  # noqa: E402

ANSWERS = ROOT / "tests" / "validate" / "image_metrics" / "other_libraries.json"
LIBRARIES = ("torch", "torchvision", "torchmetrics", "lpips", "DISTS-pytorch", "torch-fidelity", "pytorch-fid")


def make_backbone(name: str, seed: int) -> Any:
    """torchvision's network with the made weights."""
    network = getattr(torchvision.models, name)(weights=None)
    prefix = "features."
    taken = torch.nn.Module()
    taken.features = network.features[: {"alexnet": 12, "vgg16": 30}[name]]
    taken.load_state_dict(make_state(taken, seed))
    assert all(key.startswith(prefix) for key in taken.state_dict())
    return network


def ask_lpips(name: str, backbone: Any, pictures: Any) -> dict[str, list[float]]:
    """The distances, by both implementations."""
    found = {}
    for library, network in (
        ("lpips", lpips.LPIPS(net=name, pnet_rand=True, verbose=False)),
        ("torchmetrics", _LPIPS(net=name, pnet_rand=True)),
    ):
        for part in (getattr(network.net, f"slice{i}") for i in range(1, 6)):
            for number, layer in part.named_children():
                layer.load_state_dict(backbone.features[int(number)].state_dict())
        found[library] = network(*pictures, normalize=True).flatten().tolist()
    return found


def ask_dists(backbone: Any, pictures: Any) -> dict[str, list[float]]:
    """Likewise; both take VGG16 from torchvision with weights that are downloaded, here the made ones."""
    torchmetrics_dists.vgg16 = lambda weights: backbone
    dists_pytorch.models = SimpleNamespace(vgg16=lambda pretrained: backbone)
    dists_pytorch.sys = SimpleNamespace(prefix=str(Path(dists_pytorch.__file__).parent))
    return {
        "torchmetrics": torchmetrics_dists.deep_image_structure_and_texture_similarity(*pictures).tolist(),
        "DISTS-pytorch": dists_pytorch.DISTS()(*pictures).tolist(),
    }


def ask_inception(pictures: Any) -> list[list[float]]:
    """The first features of each picture, of torch-fidelity's network behind torchmetrics' resizing."""
    from sprint_export.validate.image_metrics.inception import Inception

    state = make_state(Inception(), 3) | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(state, file.name)
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], file.name)
    return network(torch.from_numpy(pictures).permute(0, 3, 1, 2))[:, :16].tolist()


def main() -> None:
    """Ask all, and write."""
    arrays = make_pictures()
    pictures = [torch.from_numpy(each).permute(0, 3, 1, 2).float() / 255 for each in arrays]
    alexnet, vgg16 = make_backbone("alexnet", 1), make_backbone("vgg16", 2)
    ours, theirs = make_features()
    answers = {
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "lpips": ask_lpips("alex", alexnet, pictures),
        "lpips_vgg": ask_lpips("vgg", vgg16, pictures),
        "dists": ask_dists(vgg16, pictures),
        "inception": ask_inception(arrays[0]),
        "fid": float(calculate_frechet_distance(ours.mean(0), np.cov(ours.T), theirs.mean(0), np.cov(theirs.T))),
    }
    ANSWERS.write_text(json.dumps(answers, indent=1) + "\n", "utf-8")
    print(ANSWERS)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
