"""The family TwinFlow-Z-Image: its stages, configs, folds, prompt and reference."""
