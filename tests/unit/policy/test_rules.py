"""The checks on the parts of a route."""

from __future__ import annotations

import pytest

from claude_bottle.policy.model import SecretRef, Upstream
from claude_bottle.policy.rules import check_scheme, parse_secret, parse_upstream


@pytest.mark.parametrize("text", ["bearer", "token", "basic", "header:x-api-key", "header:Authorization"])
def test_schemes(text: str) -> None:
    assert check_scheme(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "Bearer", "header", "header:", "header:a b", "header:a:b", "header:é", "header:a\r\nb", "cookie:a"]
    + ["header:Host", "header:content-length", "header:Transfer-Encoding", "header:connection", "header:TE"]
    + ["header:Proxy-Authorization", "header:upgrade", "header:" + "a" * 65],
)
def test_no_schemes(text: str) -> None:
    with pytest.raises(ValueError):
        check_scheme(text)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("env:API_TOKEN", SecretRef("env", ("API_TOKEN",))),
        ("file:~/.token", SecretRef("file", ("~/.token",))),
        ("file:/run/secrets/a:b", SecretRef("file", ("/run/secrets/a:b",))),
        ('command:["pass", "show", "x"]', SecretRef("command", ("pass", "show", "x"))),
    ],
)
def test_secrets(text: str, secret: SecretRef) -> None:
    assert parse_secret(text) == secret


@pytest.mark.parametrize(
    "text",
    [
        "sk-live-s3cr3t",
        "env:",
        "env:sk-live-s3cr3t",
        "env:A B",
        "file:s3cr3t",
        "file:",
        "vault:s3cr3t",
        "command:",
    ]
    + ["command:pass s3cr3t", "command:[]", 'command:[""]', 'command:["a", 1]', 'command:{"s3cr3t": 1}']
    + ["command:" + "[" * 100_000, 'command:["a\\u0000s3cr3t"]'],
)
def test_no_secrets_and_no_echo(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_secret(text)
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("http://localhost:11434", Upstream("http", "localhost", 11434)),
        ("https://Gateway.corp.example", Upstream("https", "gateway.corp.example", 443)),
        ("http://10.0.0.1", Upstream("http", "10.0.0.1", 80)),
        ("http://[::1]:8080", Upstream("http", "::1", 8080)),
    ],
)
def test_upstreams(text: str, upstream: Upstream) -> None:
    assert parse_upstream(text) == upstream


@pytest.mark.parametrize(
    "text",
    [
        "localhost:80",
        "ftp://a.example",
        "http://",
        "http://a.example/",
        "http://a.example/x",
        "http://a.example?x",
    ]
    + ["http://u:p@a.example", "http://a.example#x", "http://a.example:", "http://a.example:0", "http://[::1"]
    + [
        "http://a.example:65536",
        "http://[::1]x",
        "http://127.1",
        "http://a b",
        "HTTP://a.example",
        "http://a\\b",
    ]
    + ["http://[8.8.8.8]", "http://*.example.org", "http://a.example\n"],
)
def test_no_upstreams(text: str) -> None:
    with pytest.raises(ValueError):
        parse_upstream(text)
