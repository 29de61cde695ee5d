"""Components as OpenVINO IR."""

if __name__ != "sprint_export.export.to_openvino":
    raise ImportError("import sprint_export.export.to_openvino, not the bare folder 'to_openvino'")
