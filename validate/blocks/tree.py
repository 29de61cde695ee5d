"""The blocks of a network, from its module tree: entries of its lists of modules, and what stands beside those lists."""

from __future__ import annotations

import torch

LISTS = torch.nn.ModuleList | torch.nn.Sequential


def list_blocks(network: torch.nn.Module) -> tuple[str, ...]:
    """Paths of the modules whose outputs are compared, in the order of the tree; those at its top for a network without lists.

    An entry of an outermost list is a block; one that is a list itself (a decoder's stage) stands for its own entries. Modules
    beside a list, on the way to it, are named too: what comes in and what goes out. Of all, those that have weights.
    """
    paths: list[str] = []
    _walk(network, "", paths)
    return tuple(paths)


def is_entry(network: torch.nn.Module, path: str) -> bool:
    """Whether a module is an entry of a list."""
    return isinstance(network.get_submodule(path.rpartition(".")[0]), LISTS)


def _walk(module: torch.nn.Module, path: str, paths: list[str]) -> None:
    for name, child in module.named_children():
        where = f"{path}.{name}" if path else name
        if _holds_list(child):
            _walk(child, where, paths)
        elif next(child.parameters(), None) is not None:
            paths.append(where)


def _holds_list(module: torch.nn.Module) -> bool:
    """Whether the tree is walked further: a list of parts, or a module that has a list of blocks somewhere inside."""
    if isinstance(module, LISTS):
        return any(list(child.children()) for child in module.children())
    return any(isinstance(child, LISTS) and _holds_list(child) and len(child) > 1 for child in module.modules())
