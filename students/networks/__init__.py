"""Networks that families share: modules with weights by name, one file each."""

if __name__ != "sprint_export.students.networks":
    raise ImportError("import sprint_export.students.networks, not the bare folder 'networks'")
