"""Dataclasses as plain JSON values and back, checked field by field; standard library only."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON values; paths become strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_json(kind: type[T], value: Any) -> T:
    """Rebuild a dataclass written by `to_json`.

    Raises:
        TypeError, KeyError, ValueError: the value does not have the dataclass's fields and types.
    """
    result: T = _build(kind, value, kind.__name__)
    return result


def _build(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise TypeError(f"{where}: expected an object, found {type(value).__name__}")
        kinds = _field_kinds(kind)
        if set(value) != set(kinds):
            raise KeyError(f"{where}: expected fields {sorted(kinds)}, found {sorted(value)}")
        return kind(**{name: _build(inner, value[name], f"{where}.{name}") for name, inner in kinds.items()})
    if origin in (types.UnionType, typing.Union):
        return _build_union(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{where}: expected a list, found {type(value).__name__}")
        each = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        return tuple(_build(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(each, value, strict=True)))
    if origin is typing.Literal:
        if value not in inner:
            raise TypeError(f"{where}: expected one of {inner}, found {value!r}")
        return value
    if origin is not None:  # the remaining generic in use is Mapping[str, X]
        if not isinstance(value, dict):
            raise TypeError(f"{where}: expected an object, found {type(value).__name__}")
        return {key: _build(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    return _build_plain(kind, value, where)


@cache
def _field_kinds(kind: type[Any]) -> dict[str, Any]:
    """A dataclass's fields -> their types."""
    hints = typing.get_type_hints(kind, localns={"torch": None, "Handle": None})
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _build_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _build(kind, value, where)
        except TypeError:
            continue
    raise TypeError(f"{where}: found {value!r}, expected one of {kinds}")


def _build_plain(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind is Path:
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value
