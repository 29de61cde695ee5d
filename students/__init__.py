"""Stage 1, load: a source (embedded name, folder, hub id, random preset) becomes a Student with lazy weights.

One file here is one family; the folders with a `model_index.json` are students that ship with the package.
"""

if __name__ != "sprint_export.students":
    raise ImportError("import sprint_export.students, not the bare folder 'students'")

from sprint_export.students.source import list_students, load_student

__all__ = ["list_students", "load_student"]
