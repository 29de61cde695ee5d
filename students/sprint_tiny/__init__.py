"""The embedded student: its weights, and the world of shapes it was trained on with a detector for it."""

if __name__ != "sprint_export.students.sprint_tiny":
    raise ImportError("import sprint_export.students.sprint_tiny, not the bare folder 'sprint_tiny'")
