"""Target `plain`: `onnx` with one rule."""

from __future__ import annotations

from dataclasses import replace

from sprint_export.runtimes.onnx_cpu.target import TARGET as ONNX

TARGET = replace(ONNX, name="plain", title="ONNX with one rule", rewrites=("joined_unsqueezes",))
