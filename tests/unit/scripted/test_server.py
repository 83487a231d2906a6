"""The server, over a real socket: the Messages API, and what it remembers."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.scripted.parse import parse_script
from claude_bottle.scripted.server import ScriptedModel

from .conftest import assistant, request, result, text, user

ROOT = Path(__file__).parents[3]
SCRIPT = parse_script(
    {
        "name": "s",
        "turns": [
            {"say": "I look, äöü, " * 5, "tools": [{"name": "Bash", "input": {"command": "ls"}}]},
            {"say": "Done.", "expect": [{"contains": "good"}]},
        ],
    }
)


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes, http.client.HTTPMessage]:
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, data, {"X-Api-Key": "placeholder"})
        response = self.connection.getresponse()
        return response.status, response.read(), response.headers

    def message(self, body: dict[str, Any]) -> dict[str, Any]:
        status, data, _ = self.ask("POST", "/v1/messages?beta=true", body)
        assert status == 200
        message: dict[str, Any] = json.loads(data)
        return message


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel(SCRIPT) as model:
        yield model


@pytest.fixture
def client(model: ScriptedModel) -> Iterator[Client]:
    client = Client(model.port)
    yield client
    client.connection.close()


def events(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream; their names agree with their types."""
    found = []
    for part in data.decode().split("\n\n")[:-1]:
        name, payload = part.split("\n")
        found.append(json.loads(payload.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def assembled(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content blocks that a client puts together from a stream."""
    blocks: list[dict[str, Any]] = []
    pieces: list[str] = []
    for event in stream:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
            pieces = []
        elif event["type"] == "content_block_delta":
            pieces.append(event["delta"].get("text", event["delta"].get("partial_json")))
        elif event["type"] == "content_block_stop":
            key = "text" if blocks[-1]["type"] == "text" else "input"
            blocks[-1][key] = "".join(pieces) if key == "text" else json.loads("".join(pieces))
    return blocks


def test_a_stream_holds_the_same_message_as_one_piece(client: Client) -> None:
    whole = client.message(request(user("go")))
    status, data, headers = client.ask("POST", "/v1/messages", request(user("go"), stream=True))
    stream = events(data)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert [event["type"] for event in (stream[0], *stream[-2:])] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert stream[0]["message"]["content"] == []
    assert assembled(stream) == whole["content"]
    assert stream[-2]["delta"]["stop_reason"] == whole["stop_reason"] == "tool_use"
    assert [block["type"] for block in whole["content"]] == ["text", "tool_use"]
    assert (whole["role"], whole["model"]) == ("assistant", "m")


def test_a_conversation_to_its_end(model: ScriptedModel, client: Client) -> None:
    first = client.message(request(user("go")))
    assert not model.finished
    again = client.message(request(user("go")))
    assert again["content"] == first["content"]
    assert again["id"] != first["id"]
    back = result(first["content"][1]["id"], "good")
    last = client.message(request(user("go"), assistant(*first["content"]), back))
    assert (last["content"], last["stop_reason"]) == ([text("Done.")], "end_turn")
    assert (model.finished, model.failures) == (True, ())


def test_a_failure_is_kept_once_and_the_script_is_not_finished(model: ScriptedModel, client: Client) -> None:
    first = client.message(request(user("go")))
    body = request(user("go"), assistant(*first["content"]), result(first["content"][1]["id"], "bad"))
    assert client.message(body)["stop_reason"] == "end_turn"
    client.message(body)
    assert model.failures == ("turns[1] result 0 (Bash) does not contain 'good': 'bad'",)
    assert not model.finished


def test_side_requests_do_not_advance(model: ScriptedModel, client: Client) -> None:
    assert client.message(request(user("a title, please"), tools=()))["content"] == [text("ok")]
    status, data, _ = client.ask("POST", "/v1/messages/count_tokens?beta=true", request(user("x" * 400)))
    assert status == 200
    assert json.loads(data)["input_tokens"] > 100
    assert client.message(request(user("go")))["content"][0] == text("I look, äöü, " * 5)
    assert model.failures == ()


def test_requests_are_recorded(model: ScriptedModel, client: Client) -> None:
    client.ask("GET", "/v1/models?limit=1")
    client.message(request(user("go")))
    models, message = model.requests
    assert (models.method, models.path, models.body) == ("GET", "/v1/models?limit=1", None)
    assert (message.method, message.path) == ("POST", "/v1/messages?beta=true")
    assert message.headers["x-api-key"] == "placeholder"
    assert message.body == request(user("go"))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/messages", 404),
        ("POST", "/v1/complete", 404),
        ("POST", "/v1/messages/../messages", 404),
        ("DELETE", "/", 404),
        ("HEAD", "/nothing", 404),
        ("BREW", "/", 501),
    ],
)
def test_other_requests(client: Client, method: str, path: str, status: int) -> None:
    got, data, headers = client.ask(method, path)
    assert (got, headers["content-type"]) == (status, "application/json")
    if method != "HEAD":
        assert (json.loads(data).get("type") == "error") == (status != 200)


@pytest.mark.parametrize("body", ["x", [1], None])
def test_a_body_that_is_no_object(client: Client, body: object) -> None:
    status, data, _ = client.ask("POST", "/v1/messages", body)
    assert status == 400
    assert json.loads(data)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "header", [b"Content-Length: 999999999999", b"Content-Length: -1", b"Transfer-Encoding: chunked"]
)
def test_a_body_that_is_not_accepted_closes_the_connection(model: ScriptedModel, header: bytes) -> None:
    with socket.create_connection(("127.0.0.1", model.port), timeout=20) as raw:
        raw.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_the_end_does_not_wait_for_an_idle_connection() -> None:
    with ScriptedModel(SCRIPT) as model, socket.create_connection(("127.0.0.1", model.port)):
        pass


@pytest.mark.parametrize(("requests", "status"), [([], 1), ([request(user("x"))], 0)])
def test_the_command(tmp_path: Path, requests: list[dict[str, Any]], status: int) -> None:
    script = tmp_path / "one.yaml"
    script.write_text("name: one\nturns: [{say: hello}]\n")
    command = [sys.executable, "-m", "claude_bottle.scripted", str(script)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        client = Client(json.loads(process.stdout.readline())["port"])
        for body in requests:
            assert client.message(body)["content"] == [text("hello")]
        client.connection.close()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert ("not said to its end" in errors) == (status == 1)


def test_the_command_refuses_a_bad_script(tmp_path: Path) -> None:
    script = tmp_path / "bad.yaml"
    script.write_text("name: bad\nturn: []\n")
    command = [sys.executable, "-m", "claude_bottle.scripted", str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "turn is not a known key; did you mean turns?" in done.stderr
