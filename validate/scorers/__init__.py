"""Scorers: other people's models in processes of their own, which speak JSON lines (docs/metrics.md). None is imported."""
