"""Every script in benchmarks/ starts as its documentation says: from the repository's root, with nothing of it on the path."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.tree import ROOT

# Each with the path that `python benchmarks/NAME.py` has, and tests/ to be found anew.
LOAD = """
import json, runpy, sys
from pathlib import Path

folder, own = Path("benchmarks").resolve(), list(sys.path)
failed = {}
for script in sorted(folder.glob("*.py")):
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    sys.path[:], sys.argv[:] = [str(folder), *own], [str(script)]
    try:
        runpy.run_path(str(script), run_name="loaded")
    except Exception as error:
        failed[script.name] = repr(error)
print(json.dumps(failed))
"""
OTHERS = (
    "DISTS_pytorch",
    "modelopt",
    "nncf",
    "optimum",
    "sdnq",
    "torchao",
    "torchmetrics",
    "lpips",
    "ray",
)  # beside which they measure


def test_every_benchmark_finds_what_it_imports() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", LOAD], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    failed = json.loads(done.stdout.splitlines()[-1])
    assert not {name: why for name, why in failed.items() if not any(f"named '{other}" in why for other in OTHERS)}
