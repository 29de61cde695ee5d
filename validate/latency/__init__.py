"""How long a bundle takes on this machine, and how sure that is: pictures, components, cold starts, memory; pairs in turn.

bench.py puts a run together; turns.py draws; quantiles.py says where a percentile lies; watch.py looks at the machine meanwhile.
No torch, but where PyTorch is what a bundle is timed against.
"""

from sprint_export.validate.latency.bench import bench_bundle, time_bundle

__all__ = ["bench_bundle", "time_bundle"]
