"""The family SANA-Sprint (and TBCM): its stages, configs, folds, prompt and reference."""

if __name__ != "sprint_export.students.sana_sprint":
    raise ImportError("import sprint_export.students.sana_sprint, not the bare folder 'sana_sprint'")
