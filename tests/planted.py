"""Outliers planted on purpose: what large models have by training, put into a small one without changing its pictures.

    producer's rows * FACTOR, its readers' columns / FACTOR        for a few channels of every place the family lists
FACTOR is a power of two, so the network computes the same function to the bit, and an input that is rounded with one scale loses
most of its other channels. For tests and figures: the embedded student has no outliers of its own.
"""

from __future__ import annotations

import dataclasses

import torch

from sprint_export.nouns.student import Component, Migration, Student
from sprint_export.quantize.mend.edits import list_channels, scale_channels
from sprint_export.students.family import load_family

FACTOR = 32.0
SHARE = 0.02  # of the channels; real outliers sit in 0.1 to 1 % (arXiv 2211.10438 section 3)


def plant_outliers(student: Student, seed: int = 0) -> Student:
    """A specialized student with outliers in every place that smoothing reaches."""
    random = torch.Generator().manual_seed(seed)
    migrations = load_family(student.family).list_migrations
    components = {role: _plant(student.components[role], migrations(student, role), random) for role in student.components}
    return dataclasses.replace(student, fingerprint=f"{student.fingerprint} planted {seed}", components=components)


def _plant(component: Component, migrations: tuple[Migration, ...], random: torch.Generator) -> Component:
    for migration in migrations:
        size = component.weights[migration.producers[0]].shape[0]
        read = list_channels(migration, size).unique()
        chosen = read[torch.randperm(len(read), generator=random)[: max(1, round(SHARE * len(read)))]]
        factors = torch.ones(size).index_fill(0, chosen, FACTOR)
        component = scale_channels(component, migration, factors)
    return dataclasses.replace(component, edits={})
