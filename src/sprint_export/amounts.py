"""Amounts as lines say them. Standard library only."""

from __future__ import annotations


def show_bytes(size: float) -> str:
    """A number of bytes in GB (10^9), or below one in MB (10^6): `1.25 GB`, `3.20 MB`."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.2f} MB"
