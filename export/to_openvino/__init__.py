"""Components as OpenVINO IR."""
