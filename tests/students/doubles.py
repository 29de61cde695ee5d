"""Students and weights in float64, in which a fold is exact or wrong."""

from __future__ import annotations

import dataclasses

import torch

from sprint_export.nouns.student import Student
from sprint_export.weights import Handle, LazyHandle


def in_double(handle: Handle) -> Handle:
    """The same values."""
    return LazyHandle(handle.shape, torch.float64, lambda: handle.load().double())


def make_double(student: Student) -> Student:
    """The student with all its weights in float64."""
    components = {
        role: dataclasses.replace(component, weights={name: in_double(handle) for name, handle in component.weights.items()})
        for role, component in student.components.items()
    }
    return dataclasses.replace(student, components=components)
