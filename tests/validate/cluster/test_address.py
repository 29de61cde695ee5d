"""Where a cluster is: what is no address, and where nobody listens, is said at once."""

from __future__ import annotations

import socket

import pytest

from sprint_export.errors import InputError, MachineError
from sprint_export.validate.cluster.address import check_address


def test_an_address_where_somebody_listens_is_taken_and_so_are_rays_own_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://localhost:{port}", "local", "auto"):
            check_address(address)
    with pytest.raises(MachineError, match=rf"--ray 127\.0\.0\.1:{port}: no Ray cluster there \(Connection refused\); expected"):
        check_address(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["", "head", "host:x", "http://host:6379", "host:99999", "[::1", "local:"])
def test_what_is_no_address_lists_what_is_one(address: str) -> None:
    with pytest.raises(InputError, match=r"is no address; expected 'local', auto, or the HOST:PORT"):
        check_address(address)
