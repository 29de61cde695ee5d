"""The family SANA-Sprint (and TBCM): its stages, configs, folds, prompt and reference."""
