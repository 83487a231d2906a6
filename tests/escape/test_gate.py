"""Attacks on the one way out: each is refused, and each refusal stands in the log of decisions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from claude_bottle.operations.launch import Launched
from tests.escape.conftest import UPSTREAM_HOST, Attack
from tests.support.bottles import KEY, decisions, shell_inside
from tests.support.listeners import Upstream
from tests.support.processes import eventually

CONNECT = """
def connect(target, host=None, after=b"", version="1.1", method="CONNECT", raw=None):
    "The gate's status and reason, and what came after."
    with socket.create_connection(("127.0.0.1", 9099), 10) as sock:
        sock.settimeout(10)
        head = raw or f"{method} {target} HTTP/{version}\\r\\nHost: {host or target}\\r\\n\\r\\n".encode("latin-1")
        sock.sendall(head)
        if after:
            time.sleep(0.05)
            sock.sendall(after)
        answer = b""
        try:
            while data := sock.recv(65536):
                answer += data
                if answer.startswith(b"HTTP/1.1 200") and not after:
                    break
        except (TimeoutError, ConnectionResetError) as error:
            answer += b" " + type(error).__name__.encode()
    head, _, rest = answer.partition(b"\\r\\n\\r\\n")
    status = head.split(b" ")[1].decode() if b" " in head else head.decode("latin-1")
    try:
        return status, json.loads(rest.partition(b"\\n")[0])["error"]["reason"]
    except (ValueError, KeyError, TypeError):
        return status, rest.hex()
"""


def lines_of(cell: Launched, seen: int, reason: str) -> list[dict[str, Any]]:
    """New lines of the log with this reason; waits for them, as they may be written after the answer."""

    def found() -> list[dict[str, Any]]:
        return [line for line in decisions(cell)[seen:] if line.get("reason") == reason]

    eventually(lambda: bool(found()), 5)
    return found()


def refused(cell: Launched, attack: Attack, call: str, status: int, reason: str) -> dict[str, Any]:
    """The attack got this answer, nothing was allowed, and the log says so."""
    seen = len(decisions(cell))
    found = attack(CONNECT + f"\nstatus, said = {call}\nreport(status=status, said=said)")
    assert (found["status"], found["said"]) == (str(status), reason)
    (line, *_) = lines_of(cell, seen, reason) or [{}]
    assert line.get("verdict") == "deny", f"no line about {reason}"
    assert line["stage"] == "egress"
    assert [item for item in decisions(cell)[seen:] if item.get("verdict") == "allow"] == []
    return line


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("example.org:443", "host-not-allowed"),
        ("www.api.anthropic.com:443", "host-not-allowed"),
        ("api.anthropic.com.example.org:443", "host-not-allowed"),
        ("evil-api.anthropic.com:443", "host-not-allowed"),
        ("anthropic.com:443", "host-not-allowed"),
        ("localhost:443", "host-not-allowed"),
        ("secret-data-as-a-label.example.org:443", "host-not-allowed"),
        ("api.anthropic.com:80", "port-not-allowed"),
        ("api.anthropic.com:22", "port-not-allowed"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(
    cell: Launched, attack: Attack, target: str, reason: str
) -> None:
    line = refused(cell, attack, f"connect({target!r})", 403, reason)
    assert line["host"] == target.rpartition(":")[0]


@pytest.mark.parametrize(
    "address",
    [
        *("192.0.2.1", "8.8.8.8", "127.0.0.1", "0.0.0.0", "10.0.0.1", "169.254.169.254", "100.64.0.1"),
        *("198.18.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]", "[2001:db8::1]"),
    ],
)
def test_an_address_is_refused_whatever_it_is(cell: Launched, attack: Attack, address: str) -> None:
    refused(cell, attack, f"connect('{address}:443')", 403, "host-not-allowed")


@pytest.mark.parametrize("address", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "1"])
def test_an_address_in_disguise_is_refused(cell: Launched, attack: Attack, address: str) -> None:
    seen = len(decisions(cell))
    found = attack(CONNECT + f"status, said = connect('{address}:443')\nreport(status=status, said=said)")
    assert found["status"] in ("400", "403"), found
    assert lines_of(cell, seen, found["said"])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "api.anthropic.com\\x00.example.org",
            "api.anthropic.com\\t",
            "api.anthropic.com%00",
            "api.anthropic.com/",
        ),
        *("user@api.anthropic.com", "api.anthropic.com#", "api..anthropic.com", ".api.anthropic.com"),
        *("\\xe0pi.anthropic.com", "api.anthropic.com\\x1b[2J"),
    ],
)
def test_a_name_with_a_trick_in_it_is_refused(cell: Launched, attack: Attack, name: str) -> None:
    seen = len(decisions(cell))
    found = attack(CONNECT + f'status, said = connect("{name}:443")\nreport(status=status, said=said)')
    assert found["status"] in ("400", "403"), found
    assert lines_of(cell, seen, found["said"])
    assert "\x1b" not in cell.paths.decisions.read_text()


def test_host_and_target_must_agree(cell: Launched, attack: Attack) -> None:
    refused(cell, attack, "connect('api.anthropic.com:443', host='example.org')", 403, "host-mismatch")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET http://api.anthropic.com/ HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n",
        b"POST http://inspected.example.org/allowed HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n",
    ],
)
def test_plain_http_is_not_passed_on(cell: Launched, attack: Attack, raw: bytes) -> None:
    refused(cell, attack, f"connect('', raw={raw!r})", 405, "only-connect")


@pytest.mark.parametrize(
    "raw",
    [
        b"CONNECT api.anthropic.com:443 HTTP/1.1\nHost: api.anthropic.com:443\n\n",
        b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"CONNECT  api.anthropic.com:443 HTTP/1.1\r\n\r\n",
        b"CONNECT api.anthropic.com:443\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x05\x01\x00\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_a_head_with_two_readings_is_refused(cell: Launched, attack: Attack, raw: bytes) -> None:
    seen = len(decisions(cell))
    found = attack(CONNECT + f"status, said = connect('', raw={raw!r})\nreport(status=status, said=said)")
    assert found["status"] in ("400", "403", "405"), found
    assert lines_of(cell, seen, found["said"])


ALERT = "15"  # the first byte of a TLS alert


@pytest.mark.parametrize(
    "after",
    [
        b"GET /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 64,
        b"EHLO example.org\r\n",
    ],
)
def test_raw_bytes_after_connect_go_nowhere(cell: Launched, attack: Attack, after: bytes) -> None:
    seen = len(decisions(cell))
    call = f"connect('api.anthropic.com:443', after={after!r})"
    found = attack(CONNECT + f"status, said = {call}\nreport(status=status, said=said)")
    assert found["status"] == "200"
    assert found["said"] == "", "not a byte came back"
    assert lines_of(cell, seen, "not-tls")[0]["verdict"] == "deny"


HELLO = """
import ssl
def hello(name):
    "The first bytes of a TLS session that asks for this name."
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("b'example.org'", "sni-mismatch"),
        (f"b'{UPSTREAM_HOST}'", "sni-mismatch"),
        ("b'www.api.anthropic.com'", "sni-mismatch"),
        ("None", "sni-missing"),
    ],
)
def test_the_name_in_tls_must_be_that_of_connect(
    cell: Launched, attack: Attack, name: str, reason: str
) -> None:
    """An allowed front door, and another server asked for behind it."""
    seen = len(decisions(cell))
    call = f"connect('api.anthropic.com:443', after=hello({name}))"
    found = attack(CONNECT + HELLO + f"status, said = {call}\nreport(status=status, said=said)")
    assert found["status"] == "200"
    assert found["said"].startswith(ALERT)
    assert lines_of(cell, seen, reason)[0]["verdict"] == "deny"


def https(cell: Launched, path: str, *options: str, host: str = UPSTREAM_HOST) -> tuple[str, str]:
    """curl's view through the gate: the status and the body."""
    command = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", "--path-as-is", *options]
    done = cell.bottle.exec([*command, f"https://{host}{path}"])
    body, _, status = done.text.rpartition("\n")
    return status, body + done.stderr.decode(errors="replace")


def test_what_is_allowed_passes(cell: Launched, upstream: Upstream) -> None:
    """Else nothing here would prove anything."""
    seen = len(decisions(cell))
    assert https(cell, "/allowed/thing") == ("200", "ok")
    assert upstream.requests[-1].line == "GET /allowed/thing HTTP/1.1"
    assert [line["verdict"] for line in decisions(cell)[seen:] if "verdict" in line].count("deny") == 0


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("/", (), "path-not-allowed"),
        ("/allowedly", (), "path-not-allowed"),
        ("/allowed/../secret", (), "path-not-allowed"),
        ("/allowed", ("-X", "POST", "-d", "x"), "method-not-allowed"),
        ("/allowed", ("-X", "DELETE"), "method-not-allowed"),
        ("/allowed", ("-H", "Host: api.anthropic.com"), "host-mismatch"),
        ("/allowed", ("-H", "Host: example.org"), "host-mismatch"),
        ("/allowed", ("-H", f"Host: {UPSTREAM_HOST}:8443"), "port-not-inspected"),
    ],
)
def test_a_request_beyond_the_rule_does_not_arrive(
    cell: Launched, upstream: Upstream, path: str, options: tuple[str, ...], reason: str
) -> None:
    before, seen = len(upstream.requests), len(decisions(cell))
    status, body = https(cell, path, *options)
    # An HTTP/2 stream that is answered while its client still sends is reset: then curl may tell of that alone.
    assert status in ("400", "403", "404", "421") or (status, "(92)" in body) == ("000", True), body
    assert len(upstream.requests) == before
    assert lines_of(cell, seen, reason), [line.get("reason") for line in decisions(cell)[seen:]]


@pytest.mark.parametrize(
    "path", ["/allowed/%2e%2e/secret", "/allowed/..%2fsecret", "/allowed%2f..%2f..%2fsecret"]
)
def test_an_encoded_way_up_does_not_arrive(cell: Launched, upstream: Upstream, path: str) -> None:
    before = len(upstream.requests)
    assert https(cell, path)[0] in ("400", "403")
    assert len(upstream.requests) == before


def test_a_denial_tells_the_agent_why(cell: Launched) -> None:
    status, body = https(cell, "/secret")
    assert status == "403"
    assert json.loads(body)["error"]["reason"] == "path-not-allowed"


def test_the_real_key_goes_to_its_own_host_only(cell: Launched, upstream: Upstream) -> None:
    """Whatever header the agent makes up: the key is added on Claude's own rule and on no other."""
    status, _ = https(
        cell, "/allowed", "-H", "x-api-key: placeholder", "-H", "authorization: Bearer placeholder"
    )
    assert status in ("200", "403")
    assert not any(KEY in value for seen in upstream.requests for value in seen.headers.values())


def test_the_keys_rule_is_for_inference_only(cell: Launched) -> None:
    """Not for the account's own pages: a key could be made, or the bill be read."""
    for path in (
        "/v1/organizations/me",
        "/v1/api_keys",
        "/v1/messages/../organizations",
        "/api/oauth/profile",
    ):
        status, _ = https(cell, path, host="api.anthropic.com")
        assert status in ("400", "403"), path
    assert https(cell, "/v1/messages", "-X", "GET", host="api.anthropic.com")[0] == "403"


def test_the_gate_stands_a_flood(cell: Launched, attack: Attack) -> None:
    """Many that say nothing: the next one is served or turned away, and the gate lives."""
    found = attack(
        CONNECT
        + """
        held = []
        for _ in range(400):
            sock = socket.socket()
            sock.settimeout(2)
            if tried(sock.connect, ("127.0.0.1", 9099)) != "DONE":
                break
            held.append(sock)
        status, said = connect("example.org:443")
        for sock in held:
            sock.close()
        report(held=len(held), status=status, said=said)
        """.replace("\n        ", "\n")
    )
    assert (found["status"], found["said"]) in [("503", "too-many-connections"), ("403", "host-not-allowed")]
    assert found["held"] > 200
    assert eventually(lambda: https(cell, "/allowed")[0] == "200")


def test_the_gates_neighbours_cannot_be_called(cell: Launched, attack: Attack) -> None:
    """What judges and what dials listens outside, on sockets that do not exist in here."""
    found = attack(
        """
        listening = [line.split()[1] for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
        named = [line.split()[-1] for line in open("/proc/net/unix").readlines()[1:] if len(line.split()) > 7]
        report(listening=listening, named=named)
        """
    )
    assert {item for item in found["listening"] if item.endswith(":238B")} == {"0100007F:238B"}
    assert [name for name in found["named"] if "envoy" in name or "authz" in name or "up-" in name] == []
    assert shell_inside(cell.bottle, "ls /run/egress /run/*.sock").status != 0


def test_a_denial_reaches_who_has_not_sent_all(cell: Launched) -> None:
    """A program that only learns of a broken stream cannot tell its operator what to ask for."""
    url = f"https://{UPSTREAM_HOST}/nowhere"
    sending = (
        f"(sleep 1; head -c 200000 /dev/zero) | curl -sS --max-time 10 --write-out %{{http_code}} -T - {url}"
    )
    done = cell.bottle.exec(["sh", "-c", sending])
    body, status = done.text[:-3], done.text[-3:]
    assert (done.status, status) == (0, "403"), done.complaint
    assert json.loads(body)["error"]["reason"] in ("method-not-allowed", "path-not-allowed")
