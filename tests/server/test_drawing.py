"""The queue's bound does not depend on when the drawing thread wakes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sprint_export.runtimes import open_bundle
from sprint_export.runtimes.makings import describe_making
from sprint_export.server.drawing import Drawer
from sprint_export.server.picture_request import PictureRequest
from sprint_export.server.refusals import RefusalError
from tests.bundles import shared_bundle


def test_an_idle_server_with_room_for_one_takes_two_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle: Path = shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")
    pipeline = open_bundle(bundle)
    drawer = Drawer(pipeline, describe_making(pipeline, bundle, (64, 64)), most_waiting=1)
    for _ in range(2):  # before the thread drew anything, and after
        with drawer._changed:  # so that the thread cannot take the first
            jobs = [drawer.submit(PictureRequest("a red circle", 1, seed, 1)) for seed in range(2)]
            with pytest.raises(RefusalError, match="2 requests wait already"):
                drawer.submit(PictureRequest("a red circle", 1, 2, 1))
        for job in jobs:
            assert len(job.result.result(timeout=60)) == 1
        while drawer._is_drawing:  # the last result is there before the thread waits again
            time.sleep(0.01)
    drawer.close()
    assert (drawer.counts.requests, drawer.counts.refused, drawer.counts.pictures) == (4, 2, 4)
