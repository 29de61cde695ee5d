"""The family TwinFlow-Qwen-Image: its stages, configs, folds, prompt and reference."""
