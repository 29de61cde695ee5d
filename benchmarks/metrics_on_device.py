"""Every metric that runs a network, on the CPU and on another device: values and seconds, on made weights and pictures.

python benchmarks/metrics_on_device.py --compute cuda --side 512 --count 8
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from sprint_export.compute import CPU, choose_compute
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.image_metrics.clip_folder import EMBEDDING, SCORING
from sprint_export.validate.image_metrics.inception import Inception
from sprint_export.validate.image_metrics.measuring import MetricChoice, choose_metrics, measure_pictures
from sprint_export.validate.image_metrics.metric import Comparison
from sprint_export.validate.image_metrics.taps import make_alexnet, make_vgg16
from sprint_export.validate.image_metrics.weight_files import ALEX_FILE, INCEPTION_FILE, VGG_FILE
from tests.validate.image_metrics.made_clip import save_clip
from tests.validate.image_metrics.made_weights import make_pictures, save_made

METRICS = ("lpips", "lpips_vgg", "dists", "clip_score", "fid", "cmmd")


def main() -> None:
    """Print a row of each metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compute", default="cuda")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    exported, reference = make_pictures(count=options.count, side=options.side)
    comparison = Comparison(exported, reference, [f"picture {i}" for i in range(options.count)])
    other = choose_compute(options.compute, print)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_made(folder, ALEX_FILE.file, make_alexnet(), 1)
        save_made(folder, VGG_FILE.file, make_vgg16(), 2)
        save_made(folder, INCEPTION_FILE.file, Inception(), 3)
        for repo in (SCORING, EMBEDDING):
            save_clip(folder / Path(repo).name)
        for metric in choose_metrics(MetricChoice(METRICS, folder)):
            values, seconds = [], []
            for compute in (CPU, other):
                start = time.perf_counter()
                measured = measure_pictures([metric], comparison, mean_interval, folder, compute)
                assert not measured.unchecked, measured.unchecked
                values.append(measured.rows[0].value)
                seconds.append(time.perf_counter() - start)
            print(
                f"{metric.name:10}  {values[0]:.7g} on the CPU in {seconds[0]:.1f} s  {values[1]:.7g} on {other.title} in "
                f"{seconds[1]:.1f} s  apart {abs(values[0] - values[1]) / max(abs(values[0]), 1e-12):.1e}"
            )


if __name__ == "__main__":
    main()
