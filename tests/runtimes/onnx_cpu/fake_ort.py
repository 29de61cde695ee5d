"""A stand-in for the module `onnxruntime`, built with other providers than the installed one: it computes y = 2 x."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

GPU = "GPU"


class FakeOptions:
    """onnxruntime.SessionOptions, as far as it is used."""

    def __init__(self) -> None:
        self.enable_profiling, self.profile_file_prefix = False, ""
        self.devices: tuple[Any, ...] = ()

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Nothing depends on it here."""

    def add_provider_for_devices(self, devices: Sequence[Any], options: dict[str, str]) -> None:
        """A plugin's."""
        self.devices = tuple(devices)


class FakeOrt:
    """The module.

    Args:
        built_in: names of the providers of the build, beside the CPU's.
        devices: what a plugin finds, (provider, kind of device), once it is registered.
        placed: where the nodes of a run land, provider -> operators; default: one Add on the first provider.
        broken: providers whose session is made without them, as older versions do with a word on stdout.
        has_plugins: False of versions before 1.23.
    """

    __version__ = "1.32.0"
    OrtHardwareDeviceType = SimpleNamespace(GPU=GPU, CPU="CPU")
    SessionOptions, RunOptions = FakeOptions, SimpleNamespace
    OrtValue: Any = None  # FakeValue, below

    def __init__(
        self,
        built_in: Sequence[str] = (),
        devices: Sequence[tuple[str, str]] = (),
        placed: dict[str, list[str]] | None = None,
        broken: Sequence[str] = (),
        has_plugins: bool = True,
    ) -> None:
        self.built_in, self.placed, self.broken, self._found = [*built_in, "CPUExecutionProvider"], placed, broken, devices
        self.registered: dict[str, str] = {}
        self.opened: list[FakeSession] = []
        if has_plugins:
            self.register_execution_provider_library = self.registered.__setitem__

    def get_available_providers(self) -> list[str]:
        """Of the build."""
        return self.built_in

    def get_ep_devices(self) -> list[Any]:
        """Of what is registered."""
        return [
            SimpleNamespace(ep_name=name, device=SimpleNamespace(type=kind))
            for name, kind in self._found
            if name in self.registered
        ]

    def InferenceSession(self, graph: str, options: FakeOptions, providers: list[Any], enable_fallback: int) -> FakeSession:  # noqa: N802  # the library's name
        """A session on what was asked for, or without it where that is broken."""
        assert enable_fallback == 0, "a newer version says why it fails in place of falling back"
        self.asked = providers
        named = [each[0] if isinstance(each, tuple) else each for each in providers]
        asked = [*(device.ep_name for device in options.devices), *named] or ["CPUExecutionProvider"]
        if any(name in self.broken for name in asked):
            print(f"EP Error no adapter when using {asked}")
        found = [name for name in asked if name not in self.broken]
        self.opened.append(FakeSession(options, found, self.placed or {found[0]: ["Add"]}))
        return self.opened[-1]


class FakeValue:
    """onnxruntime.OrtValue: an array at an address that stays."""

    def __init__(self, array: Any, device: str) -> None:
        self.array, self.device, self.updates = np.array(array), device, 0

    @classmethod
    def ortvalue_from_numpy(cls, array: Any, device: str, place: int) -> FakeValue:
        """A copy."""
        return cls(array, device)

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: Sequence[int], kind: str, device: str, place: int) -> FakeValue:
        """Zeros."""
        return cls(np.zeros(shape, kind), device)

    def update_inplace(self, array: Any) -> None:
        """Copy into it."""
        self.array[...] = array
        self.updates += 1


class FakeBinding:
    """onnxruntime.IOBinding."""

    def __init__(self) -> None:
        self.inputs: dict[str, FakeValue] = {}
        self.outputs: dict[str, FakeValue] = {}

    def bind_ortvalue_input(self, name: str, value: FakeValue) -> None:
        """By name."""
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: FakeValue) -> None:
        """By name."""
        self.outputs[name] = value

    def copy_outputs_to_cpu(self) -> list[Any]:
        """In their order."""
        return [value.array.copy() for value in self.outputs.values()]


class FakeSession:
    """onnxruntime.InferenceSession of y = 2 x, float32 [2, 3]."""

    def __init__(self, options: FakeOptions, providers: list[str], placed: dict[str, list[str]]) -> None:
        self.options, self._providers, self._placed, self.has_fallback = options, providers, placed, True

    def get_providers(self) -> list[str]:
        """With the CPU's, which is always there."""
        return list(dict.fromkeys([*self._providers, "CPUExecutionProvider"]))

    def disable_fallback(self) -> None:
        """A run that fails is not tried again on the CPU."""
        self.has_fallback = False

    def get_inputs(self) -> list[Any]:
        """x."""
        return [SimpleNamespace(name="x", type="tensor(float)", shape=[2, 3])]

    def get_outputs(self) -> list[Any]:
        """y."""
        return [SimpleNamespace(name="y", type="tensor(float)", shape=[2, 3])]

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        """2 x."""
        return [np.asarray(feeds["x"]) * 2]

    def io_binding(self) -> FakeBinding:
        """One, which is kept."""
        self.binding = FakeBinding()
        return self.binding

    def run_with_iobinding(self, binding: FakeBinding) -> None:
        """2 x."""
        binding.outputs["y"].array[...] = 2 * binding.inputs["x"].array

    def end_profiling(self) -> str:
        """The file, as ONNX Runtime writes it: sessions' events, and each node's with two more beside its kernel's."""
        events: list[dict[str, Any]] = [{"cat": "Session", "name": "model_run", "args": {}}]
        for provider, operators in self._placed.items():
            for i, operator in enumerate(operators):
                told = {"op_name": operator, "provider": provider}
                events.append({"cat": "Node", "name": f"{operator}_{i}_kernel_time", "args": told})
                events.append({"cat": "Node", "name": f"{operator}_{i}_fence_before", "args": {"op_name": operator}})
        path = Path(f"{self.options.profile_file_prefix}_1.json")
        path.write_text(json.dumps(events), "utf-8")
        return str(path)


FakeOrt.OrtValue = FakeValue
