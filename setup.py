"""The packages, found in the tree: pyproject.toml cannot say it of stages that are top-level folders (docs/decisions/0001)."""

from setuptools import find_packages, setup

STAGES = ("students", "quantize", "export", "runtimes", "validate")

frame = find_packages("src", exclude=[f"sprint_export.{stage}{inside}" for stage in STAGES for inside in ("", ".*")])
stages = [name for stage in STAGES for name in (stage, *(f"{stage}.{inside}" for inside in find_packages(stage)))]
setup(packages=[*frame, *(f"sprint_export.{name}" for name in stages)])
