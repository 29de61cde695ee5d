"""A server over a real socket: 200 clients at once, those that leave, the ones beyond the queue, and what is refused."""

from __future__ import annotations

import base64
import http.client
import io
import json
import logging
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sprint_export.errors import InputError, MachineError
from sprint_export.runtimes import open_bundle
from sprint_export.server import Settings
from sprint_export.server.connections import MOST_BACKLOG, MOST_CONNECTIONS
from sprint_export.server.listening import configure, make_service, open_socket
from tests.attack.outcomes import CLEAN, RIGHT
from tests.attack.raw_requests import Failures, judge, make_request, send
from tests.bundles import check_refused, run_command, shared_bundle
from tests.command_server import COMMAND

CLIENTS = 200
PROMPTS = ("a red circle", "a blue square above a green circle", "a large yellow triangle on the left")
KEY = "a-key"


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


@dataclass
class Answer:
    """Of a server: status, headers and the JSON of its body."""

    status: int
    headers: dict[str, str]
    value: Any


@dataclass
class Client:
    """Of the server at a port."""

    port: int

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json"} | (headers or {}))
        found = connection.getresponse()
        text = found.read()
        connection.close()
        value = json.loads(text) if found.headers["content-type"] == "application/json" else text.decode()
        return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, value)

    def draw(self, **asked: Any) -> Answer:
        return self.ask("POST", "/v1/images/generations", asked)


@contextmanager
def running(bundle: Path, most: int = MOST_CONNECTIONS, **settings: Any) -> Iterator[Client]:
    """A server of so many connections in a thread of this process, until the block ends."""
    import uvicorn

    chosen = Settings(port=0, **settings)
    app, _, _ = make_service(bundle, chosen)
    listener = open_socket(chosen)
    server = uvicorn.Server(configure(app, chosen, most, MOST_BACKLOG))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Client(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(int8: Path) -> Iterator[Client]:
    with running(int8) as found:
        yield found


def read_pictures(answer: Answer) -> list[Any]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each["b64_json"])))) for each in answer.value["data"]]


def test_of_200_requests_at_once_none_is_lost_and_each_gets_its_own_picture(client: Client, int8: Path) -> None:
    pipeline = open_bundle(int8)
    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda i: client.draw(prompt=PROMPTS[i % len(PROMPTS)], seed=i), range(CLIENTS)))
    print(f"{CLIENTS} requests at once in {time.perf_counter() - start:.1f} s")
    assert {answer.status for answer in answers} == {200}
    for i, answer in enumerate(answers):
        assert [each["seed"] for each in answer.value["data"]] == [i]
        [found], [wanted] = read_pictures(answer), pipeline([PROMPTS[i % len(PROMPTS)]], seed=i)
        assert np.array_equal(found, wanted), f"seed {i}"


def test_n_pictures_have_the_seeds_that_follow_and_say_so(client: Client, int8: Path) -> None:
    answer = client.draw(prompt=PROMPTS[0], seed=7, n=3, size="64x64", response_format="b64_json", user="somebody", model=None)
    assert [each["seed"] for each in answer.value["data"]] == [7, 8, 9]
    assert np.array_equal(np.stack(read_pictures(answer)), open_bundle(int8)([PROMPTS[0]], seed=7, count=3))
    info = Image.open(io.BytesIO(base64.b64decode(answer.value["data"][2]["b64_json"]))).info
    assert (info["prompt"], info["seed"], info["student"]) == (PROMPTS[0], "9", "sprint-tiny")
    seeds = {client.draw(prompt=PROMPTS[0]).value["data"][0]["seed"] for _ in range(3)}
    assert len(seeds) == 3, "without a seed every request gets another"


@pytest.mark.parametrize(
    ("asked", "status", "parameter", "part"),
    [
        ({}, 400, "prompt", "prompt=None: expected a text"),
        ({"prompt": " "}, 400, "prompt", "a text that is not empty"),
        ({"prompt": "a" * 5000}, 400, "prompt", "has 5000 letters, expected at most 4000"),
        ({"prompt": "a", "n": 11}, 400, "n", "n=11: expected a whole number from 1 to 10"),
        ({"prompt": "a", "n": True}, 400, "n", "n=True"),
        ({"prompt": "a", "seed": -1}, 400, "seed", "seed=-1"),
        ({"prompt": "a", "steps": 3}, 400, None, "number of steps '3'; choose from: 1"),
        ({"prompt": "a", "size": "big"}, 400, "size", "size='big': expected 'auto' or width x height"),
        ({"prompt": "a", "size": "1024x1024"}, 400, None, "this bundle draws 64 x 64"),
        ({"prompt": "a", "response_format": "url"}, 400, "response_format", "expected 'b64_json'"),
        ({"prompt": "a", "quality": "hd"}, 400, "quality", "draws in one way"),
        ({"prompt": "a", "negative_prompt": "b"}, 400, "negative_prompt", "choose from: prompt, model, n, size"),
        ({"prompt": "a", "stream": True}, 400, "stream", "a picture comes whole"),
        ({"prompt": "a", "model": "dall-e-3"}, 404, "model", "this server has 'sprint-tiny-onnx-int8'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_as_clients_expect(
    client: Client, asked: dict[str, Any], status: int, parameter: str | None, part: str
) -> None:
    answer = client.draw(**asked)
    assert answer.status == status
    error = answer.value["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", parameter)
    assert part in error["message"]


def test_bodies_and_paths_are_checked(client: Client) -> None:
    path = "/v1/images/generations"
    assert client.ask("POST", path, b"[").status == 400
    assert client.ask("POST", path, b"[" * 60000).status == 400, "nested beyond what a parser takes"
    assert client.ask("POST", path, b"[]").value["error"]["message"].startswith("the body is a JSON list")
    assert client.ask("POST", path, b"x" * 70_000).status == 413
    halves = client.ask("POST", path, b'{"prompt": "a", "\\ud800": 1}')
    assert (halves.status, halves.value["error"]["param"]) == (400, "\ud800"), "half a letter in a name"
    assert client.ask("POST", path, b'{"prompt": "\\ud800"}').status == 400
    assert client.ask("POST", path, {"prompt": "a"}, {"Content-Type": "text/plain"}).status == 415
    assert client.ask("GET", path).status == 405
    assert client.ask("GET", "/nothing").value["error"]["code"] == "not_found"
    assert client.ask("GET", "/health", headers={"Host": "evil.example"}).status == 400, "a name that was pointed at loopback"


def test_models_health_and_metrics_are_told(client: Client) -> None:
    [model] = client.ask("GET", "/v1/models").value["data"]
    assert model["id"] == "sprint-tiny-onnx-int8"
    assert client.ask("GET", f"/v1/models/{model['id']}").value == model
    assert client.ask("GET", "/v1/models/other").value["error"]["code"] == "model_not_found"
    before = client.ask("GET", "/health").value["pictures"]
    client.draw(prompt="a", n=2)
    assert client.ask("GET", "/health").value["pictures"] == before + 2
    assert f"sprint_export_pictures_total {before + 2}\n" in client.ask("GET", "/metrics").value


def test_beyond_the_queue_one_is_told_when_to_come_again_and_who_leaves_is_not_drawn(int8: Path) -> None:
    with running(int8, most_waiting=1, most_pictures=500) as client:
        leaving = [http.client.HTTPConnection("127.0.0.1", client.port) for _ in range(2)]
        for i, connection in enumerate(leaving):
            body = json.dumps({"prompt": PROMPTS[0], "n": 500, "seed": 0})
            connection.request("POST", "/v1/images/generations", body, {"Content-Type": "application/json"})
            wait_for(client, lambda health, i=i: health["requests"] == i + 1)
        wait_for(client, lambda health: health["waiting"] == 1)
        refused = client.draw(prompt="a")
        assert refused.status == 429
        assert refused.value["error"]["type"] == "rate_limit_error"
        assert int(refused.headers["retry-after"]) >= 1
        for connection in leaving:
            connection.close()
        wait_for(client, lambda health: health["left"] == 2)
        start = time.perf_counter()
        assert client.draw(prompt="a").status == 200
        print(f"after two requests for 500 pictures were left, the next took {time.perf_counter() - start:.2f} s")
        health = client.ask("GET", "/health").value
        assert (health["pictures"], health["refused"], health["failed"]) == (1, 1, 0)


def wait_for(client: Client, is_there: Any) -> None:
    end = time.monotonic() + 20
    while not is_there(client.ask("GET", "/health").value):
        assert time.monotonic() < end, client.ask("GET", "/health").value
        time.sleep(0.02)


def test_a_key_is_asked_for_where_one_is_set(int8: Path) -> None:
    with running(int8, api_key=KEY) as client:
        assert client.draw(prompt="a").value["error"]["code"] == "invalid_api_key"
        assert client.ask("GET", "/v1/models", headers={"Authorization": "Bearer other"}).status == 401
        assert client.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status == 200
        assert client.ask("GET", "/health").status == 200, "who watches it needs no key"


def test_the_command_finishes_what_is_under_way_when_it_is_stopped(int8: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([COMMAND, "serve", int8, "--port", "0"], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    match = re.search(r"127\.0\.0\.1:(\d+)/v1", process.stderr.readline())
    assert match is not None
    client = Client(int(match[1]))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.draw, prompt=PROMPTS[0], seed=i, n=10) for i in range(4)]
        wait_for(client, lambda health: health["requests"] == 4)
        check_refused(run_command("serve", int8, "--port", match[1], folder=tmp_path), 3, "cannot listen there (Address already")
        process.send_signal(signal.SIGTERM)
        assert [each.result().status for each in asked] == [200] * 4
    assert process.wait(30) == 0
    assert process.stderr.read() == "stopped\n"


def test_addresses_and_limits_are_checked() -> None:
    for wrong in ({"port": 70000}, {"most_waiting": 0}, {"api_key": "ü"}):
        with pytest.raises(InputError, match=r"expected"):
            Settings(**wrong)
    with pytest.raises(InputError, match=r"--host 203\.0\.113\.9: this machine has no such address"):
        open_socket(Settings("203.0.113.9", 0))
    with open_socket(Settings(port=0)) as taken, pytest.raises(MachineError, match="cannot listen there"):
        open_socket(Settings(port=taken.getsockname()[1]))


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch, int8: Path) -> None:
    import sys

    from sprint_export.server import serve

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MachineError, match=r"uvicorn is not installed; run: pip install 'sprint-export\[serve\]'"):
        serve(int8)


def test_bytes_that_no_client_sends_are_answered_below_500_or_not_at_all(client: Client) -> None:
    right = client.draw(prompt=PROMPTS[0], seed=3).value["data"]
    failures = Failures()
    logging.getLogger().addHandler(failures)
    try:
        for i in range(30):
            rng = random.Random(i)
            kind, pieces = make_request(rng)
            outcome, seen = judge(*send(client.port, pieces, half_closes=True), failures)
            assert outcome in (RIGHT, CLEAN), f"{i}, {kind}: {seen}"
    finally:
        logging.getLogger().removeHandler(failures)
    assert client.draw(prompt=PROMPTS[0], seed=3).value["data"] == right
