"""Real hellos of Python's own client, cut and mutated in every way, and hand-made ones with two readings."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterable

import pytest

from claude_bottle.policy.clienthello import MAX_HELLO, ClientHello, HelloError, HelloReader

NAME = "api.example.org"
SNI, ECH, GROUPS, KEY_SHARE = 0, 0xFE0D, 10, 51


def captured(name: str | None, *, minimum: ssl.TLSVersion | None = None, alpn: Iterable[str] = ()) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if minimum:
        context.maximum_version = minimum
    if names := list(alpn):
        context.set_alpn_protocols(names)
    outgoing = ssl.MemoryBIO()
    stream = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        stream.do_handshake()
    return outgoing.read()


def vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, data)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(SNI, vector(2, bytes([kind]) + vector(2, name)))


def body(extensions: bytes | None, *, suites: bytes = b"\x13\x01", version: bytes = b"\x03\x03") -> bytes:
    fixed = version + bytes(32) + vector(1, bytes(32)) + vector(2, suites) + vector(1, b"\0")
    return fixed if extensions is None else fixed + vector(2, extensions)


def message(content: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(3, content)


def records(data: bytes, size: int = 1 << 14, kind: int = 22) -> bytes:
    parts = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(bytes([kind]) + b"\x03\x01" + vector(2, part) for part in parts)


def hello(extensions: bytes | None) -> bytes:
    return records(message(body(extensions)))


def read(data: bytes) -> ClientHello | None:
    return HelloReader().feed(data)


CAPTURES = {
    "tls 1.3": captured(NAME),
    "tls 1.2": captured(NAME, minimum=ssl.TLSVersion.TLSv1_2),
    "upper case": captured("API.Example.ORG"),
    "alpn": captured(NAME, alpn=["h2", "http/1.1"]),
    "many protocols": captured(NAME, alpn=[f"protocol-{number}" for number in range(200)]),
    "several records": records(captured(NAME)[5:], 64),
    "a byte in each record": records(captured(NAME)[5:], 1),
    "post-quantum key": hello(extension(KEY_SHARE, bytes(1300)) + server_name(NAME.encode())),
    "many records": hello(extension(KEY_SHARE, bytes(40_000)) + server_name(NAME.encode())),
}


@pytest.mark.parametrize("capture", CAPTURES)
def test_the_name_is_read(capture: str) -> None:
    assert read(CAPTURES[capture]) == ClientHello(NAME, encrypted_name=False)


@pytest.mark.parametrize("capture", [name for name, data in CAPTURES.items() if len(data) < 2500])
def test_every_cut_gives_the_same_answer_and_no_earlier_one(capture: str) -> None:
    data = CAPTURES[capture]
    for cut in range(len(data)):
        reader = HelloReader()
        assert reader.feed(data[:cut]) is None
        assert reader.feed(data[cut:]) == ClientHello(NAME, encrypted_name=False)


@pytest.mark.parametrize("capture", CAPTURES)
def test_byte_by_byte(capture: str) -> None:
    reader = HelloReader()
    answers = [reader.feed(bytes([byte])) for byte in CAPTURES[capture]]
    assert answers[:-1] == [None] * (len(answers) - 1)
    assert answers[-1] == ClientHello(NAME, encrypted_name=False)


def test_what_follows_the_hello_is_not_judged() -> None:
    assert read(CAPTURES["tls 1.3"] + b"\x17\x03\x03\x00\x05early" + bytes(70_000)) == ClientHello(
        NAME, False
    )


@pytest.mark.parametrize(
    "data", [captured(None), hello(None), hello(b""), hello(extension(GROUPS, b"\0\x02\0\x1d"))]
)
def test_no_name_is_told_from_an_empty_one(data: bytes) -> None:
    assert read(data) == ClientHello(None, encrypted_name=False)


@pytest.mark.parametrize("kind", [0xFE0D, 0xFE08, 0xFFCE])
def test_an_encrypted_name_is_seen(kind: int) -> None:
    assert read(hello(server_name(b"x.example") + extension(kind, b"anything"))) == ClientHello(
        "x.example", True
    )


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\0",
        b"\x80\x2e\x01\x03\x01",  # SSL 2
        b"\x16\x02",
        b"\x17\x03\x03\0\x01\0",
    ],
)
def test_other_protocols_are_no_tls(data: bytes) -> None:
    with pytest.raises(HelloError) as caught:
        read(data)
    assert caught.value.reason == "not-tls"


PARTS = message(body(server_name(b"x.example")))
MALFORMED = {
    "a name twice": hello(server_name(b"a.example") + server_name(b"b.example")),
    "another extension twice": hello(server_name(b"a.example") + extension(7, b"") * 2),
    "two names in one list": hello(
        extension(SNI, vector(2, b"\0" + vector(2, b"a.example") + b"\0" + vector(2, b"b.example")))
    ),
    "a name of another kind": hello(server_name(b"a.example", kind=1)),
    "an empty name": hello(server_name(b"")),
    "an empty list of names": hello(extension(SNI, vector(2, b""))),
    "an empty extension": hello(extension(SNI, b"")),
    "NUL in the name": hello(server_name(b"a.example\0.evil.example")),
    "a line end in the name": hello(server_name(b"a.example\n")),
    "no ASCII": hello(server_name("ä.example".encode())),
    "a name too long": hello(server_name(b"a" * 256)),
    "bytes after the names": hello(extension(SNI, vector(2, b"\0" + vector(2, b"a.example")) + b"!")),
    "bytes after the extensions": records(message(body(server_name(b"a.example")) + b"!")),
    "an extension past the end": hello(server_name(b"a.example")[:-1]),
    "bytes after the message": records(PARTS + b"\x0b"),
    "bytes after a message without extensions": records(message(body(None)) + b"\0\0"),
    "two hellos in one record": records(PARTS * 2),
    "another handshake message": records(message(b"", kind=2)),
    "another record in between": records(PARTS[:20]) + records(PARTS[20:], kind=23),
    "an empty record": b"\x16\x03\x01\0\0",
    "an empty record in between": records(PARTS[:20]) + b"\x16\x03\x01\0\0" + records(PARTS[20:]),
    "a record too long": b"\x16\x03\x01" + (16385).to_bytes(2, "big"),
    "an odd list of suites": records(message(body(b"", suites=b"\x13\x01\x13"))),
    "no suites": records(message(body(b"", suites=b""))),
    "a major version of its own": records(message(body(b"", version=b"\x04\x00"))),
    "an empty hello": records(message(b"")),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_has_two_readings_is_refused(case: str) -> None:
    with pytest.raises(HelloError) as caught:
        read(MALFORMED[case])
    assert caught.value.reason == "hello-malformed"


def test_a_wrong_kind_is_refused_before_the_record_is_complete() -> None:
    with pytest.raises(HelloError):
        read(b"\x16\x03\x01\x40\x00\x02")


@pytest.mark.parametrize(
    "data",
    [
        records(b"\x01" + (MAX_HELLO - 3).to_bytes(3, "big")),  # refused for what it announces
        records(message(body(server_name(b"a.example") + extension(KEY_SHARE, bytes(11_000)))), 1),
    ],
)
def test_a_hello_is_bounded(data: bytes) -> None:
    with pytest.raises(HelloError) as caught:
        read(data)
    assert caught.value.reason == "hello-too-large"


def test_mutations_are_read_or_refused_but_nothing_else() -> None:
    chance = random.Random(7)
    names, refused = set(), 0
    for data in (CAPTURES["tls 1.3"], CAPTURES["several records"], hello(server_name(b"api.example.org"))):
        for _ in range(3000):
            mutated = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(mutated))
                mutated[at : at + chance.choice((0, 1, 1, 2))] = chance.randbytes(chance.choice((0, 1, 1, 2)))
            try:
                found = read(bytes(mutated))
            except HelloError:
                refused += 1
            else:
                names.add(found and found.sni)
    assert refused > 500
    assert {NAME, None} < names
