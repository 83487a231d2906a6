"""What the operator's process says to a running bundle: a JSON line asked, one answered, a connection each.

Invariant: a line is taken whole or not at all; a change that is not wholly understood is refused with a word
for it. Who is not the one user whom the kernel must name as the caller is not answered.

An address that begins with "@" is an abstract one (unix(7)): nobody can remove it or put another in its place
as long as the bundle lives. Any other is a path.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from claude_bottle.policy.live import LivePolicy, live_from_json
from claude_bottle.policy.proposals import Answer
from claude_bottle.policy.proposals_json import answer_from_json
from claude_bottle.policy.snapshot import PolicyFormatError
from claude_bottle.sidecars.control_client import peer_of
from claude_bottle.sidecars.egress.certs import CertAndKey
from claude_bottle.sidecars.sockets import RECEIVE, Acceptor, listen_unix

MAX_REQUEST = 1 << 20
CONFLICT, INVALID, ANSWERED, UNKNOWN, FAILED = "conflict", "invalid", "answered", "unknown", "failed"
_CONNECTIONS = 16
_SECONDS = 10.0
_MAX_PEM = 16 << 10
_MAX_ITEMS = 4096
_WORD = re.compile(r"[A-Za-z0-9-]{1,64}")

Json = dict[str, Any]


class ControlError(Exception):
    """The answer is no; `error` is one of the words above."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error
        self.detail = detail


class Look(NamedTuple):
    """What is in force, and what was asked for?"""


class Authority(NamedTuple):
    """The bottle's certificate authority, with its key."""


class Applied(NamedTuple):
    """Has this decision taken effect?"""

    decision: str


class Change(NamedTuple):
    """All of it or nothing. `live` is the next version, None where only answers are given."""

    decision: str
    expect: int | None = None  # the version that it was made from
    live: LivePolicy | None = None
    leaves: Mapping[str, CertAndKey] = {}
    credentials: Mapping[str, str] = {}  # by `str(SecretRef)`
    answers: tuple[tuple[str, Answer], ...] = ()  # proposal, answer

    def __repr__(self) -> str:
        return f"<change {self.decision}: {len(self.leaves)} leaves, {len(self.credentials)} credentials>"


Request = Look | Authority | Applied | Change


def parse_request(line: bytes) -> Request:
    """Raises ControlError."""
    try:
        obj = json.loads(line)
        if not isinstance(obj, dict):
            raise PolicyFormatError("not an object")
        return _request(obj.pop("op", None), obj)
    except (ValueError, RecursionError) as error:
        raise ControlError(INVALID, str(error)) from None


def _request(operation: object, fields: Json) -> Request:
    """Raises PolicyFormatError."""
    if operation == "change":
        return _change(fields)
    if operation == "applied" and set(fields) == {"decision"}:
        return Applied(_word(fields["decision"]))
    if operation == "look" and not fields:
        return Look()
    if operation == "authority" and not fields:
        return Authority()
    raise PolicyFormatError("there is no such operation")


def _change(fields: Json) -> Change:
    known = set(Change._fields)
    if not {"decision"} <= set(fields) <= known:
        raise PolicyFormatError(f"a change has the keys {', '.join(sorted(known))}")
    expect, live = fields.get("expect"), fields.get("live")
    if expect is not None and type(expect) is not int:
        raise PolicyFormatError("expect: not a version")
    if live is not None and expect is None:
        raise PolicyFormatError("expect: a new policy is made from a version, and must name it")
    return Change(
        _word(fields["decision"]),
        expect,
        None if live is None else live_from_json(live),
        {name: _leaf(pair) for name, pair in _mapping(fields, "leaves").items()},
        {
            name: _text(value, "credentials", 1 << 16)
            for name, value in _mapping(fields, "credentials").items()
        },
        tuple(_answer(item) for item in _list(fields.get("answers", []), "answers")),
    )


def _leaf(pair: object) -> CertAndKey:
    cert, key = _pair(pair, "leaves: not [certificate, key]")
    return CertAndKey(_text(cert, "leaves", _MAX_PEM), _text(key, "leaves", _MAX_PEM))


def _answer(item: object) -> tuple[str, Answer]:
    ident, said = _pair(item, "answers: not [proposal, answer]")
    return _text(ident, "answers", 64), answer_from_json(said)


def _mapping(fields: Json, name: str) -> Mapping[str, object]:
    found = fields.get(name, {})
    if not isinstance(found, dict) or len(found) > _MAX_ITEMS:
        raise PolicyFormatError(f"{name}: not a mapping, or too long")
    return found


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise PolicyFormatError(f"{where}: not a list, or too long")
    return value


def _pair(value: object, why: str) -> tuple[object, object]:
    if not isinstance(value, list) or len(value) != 2:
        raise PolicyFormatError(why)
    return value[0], value[1]


def _text(value: object, where: str, most: int) -> str:
    if type(value) is not str or len(value) > most:
        raise PolicyFormatError(f"{where}: not a text, or too long")
    return value


def _word(value: object) -> str:
    if type(value) is not str or not _WORD.fullmatch(value):
        raise PolicyFormatError("decision: not a word")
    return value


Handle = Callable[[Request], Awaitable[Json]]  # raises ControlError


class ControlServer:
    """Serves the callers that are `uid` here; closes on any other without a word."""

    def __init__(self, uid: int, handle: Handle) -> None:
        self._uid = uid
        self._handle = handle

    def serve(self, listener: socket.socket) -> Acceptor:
        return Acceptor(listener, self._serve, lambda sock: None, _CONNECTIONS)

    async def _serve(self, sock: socket.socket) -> None:
        if peer_of(sock)[1] != self._uid:
            return
        try:
            line = await _read_line(sock)
        except (OSError, TimeoutError):
            return  # it left, or never came to the end
        try:
            said = {"ok": True, **await self._handle(parse_request(line))}
        except ControlError as error:
            said = {"ok": False, "error": error.error, "detail": error.detail}
        except Exception as error:  # noqa: BLE001 - the caller must hear that it did not happen
            # Only our own messages are known to hold no secret.
            said = {"ok": False, "error": FAILED, "detail": type(error).__name__}
        try:
            async with asyncio.timeout(_SECONDS):
                await asyncio.get_running_loop().sock_sendall(sock, json.dumps(said).encode() + b"\n")
        except OSError:
            pass  # nobody listens any more; TimeoutError is one


async def _read_line(sock: socket.socket) -> bytes:
    """Raises ControlError for what is too long, OSError where there is no whole line."""
    taken = bytearray()
    async with asyncio.timeout(_SECONDS):
        while b"\n" not in taken:
            data = await asyncio.get_running_loop().sock_recv(sock, RECEIVE * 4)
            if not data:
                raise ConnectionResetError("no whole line")
            taken += data
            if len(taken) > MAX_REQUEST:
                raise ConnectionResetError("far too long")
    return bytes(taken.partition(b"\n")[0])


def listen_control(address: str) -> socket.socket:
    """Raises OSError; where somebody has an abstract address already, too."""
    if not address.startswith("@"):
        return listen_unix(address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(f"\0{address[1:]}")
        listener.listen(_CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    return listener
