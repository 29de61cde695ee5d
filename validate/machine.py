"""What machine a figure was measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

DRIVER_S = 20  # seconds that a driver's program may take


def describe_machine() -> str:
    """Processor, cores and system of this machine."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def find_driver() -> str:
    """GPUs of this machine with their driver's version, as NVIDIA's own program says; "" where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DRIVER_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = dict.fromkeys(line.strip() for line in done.stdout.splitlines() if line.strip())
    return "; ".join(lines)[:200] if done.returncode == 0 else ""


def list_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of this package, of Python, the system and numpy, and of these libraries where they are installed."""
    from importlib.metadata import PackageNotFoundError, version

    from sprint_export import __version__

    found = {"sprint-export": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in ("numpy", *libraries):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a system, or a runtime that another one stood in for
            continue
    return found
