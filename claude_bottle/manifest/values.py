"""The kinds of values that only a manifest has: names, sizes, durations, secrets, environment values.

Invariant: text that will stand in a config file or on a command line (ssh, git, the
engines) is one printable line that cannot be taken for an option.
"""

from __future__ import annotations

import re
from typing import Any

from claude_bottle.manifest.fields import Key, Kind, Schema, by_type, line, list_of, pattern, record, text
from claude_bottle.manifest.model import EnvValue
from claude_bottle.manifest.problems import KeyPath, Report
from claude_bottle.policy.hosts import normalise_host, parse_pattern
from claude_bottle.policy.model import SecretRef, Upstream
from claude_bottle.policy.rules import (
    ENV_NAME,
    METHODS,
    check_host_path,
    check_method,
    check_prefix,
    check_scheme,
    check_secret,
    parse_secret,
    parse_upstream,
)

_SIZE = re.compile(r"([1-9][0-9]{0,8})([KMGT])")
_DURATION = re.compile(r"([1-9][0-9]{0,7})([smh])")
_POWER = {"K": 10, "M": 20, "G": 30, "T": 40}
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_HOST_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_TOOL = re.compile(r"(?:[^,()]|\([^()]*\))+")
_REF = re.compile(r"refs/(?:heads|tags)/[A-Za-z0-9_+*][A-Za-z0-9_+*./-]*")
MAX_TEXT = 1 << 20


def name() -> Kind[str]:
    """What bottles and agents are called: part of slugs, container names and paths."""
    return pattern(
        r"[a-z0-9][a-z0-9-]{0,39}",
        "a name is 1 to 40 lower-case letters, digits and hyphens, not beginning with a hyphen",
    )


def env_name() -> Kind[str]:
    return pattern(ENV_NAME.pattern, "not a name of an environment variable")


def env_value() -> Kind[EnvValue]:
    """A literal, `${NAME}` copied from the host, or `?question` asked on the terminal."""
    return text(_env_value, maxLength=MAX_TEXT)


def free_text() -> Kind[str]:
    """Text of any shape, such as a prompt."""

    def check(value: str) -> str:
        if "\0" in value or len(value) > MAX_TEXT:
            raise ValueError(f"the text has a NUL or more than {MAX_TEXT} characters")
        return value

    return text(check, maxLength=MAX_TEXT)


def size() -> Kind[int]:
    return text(_size, pattern=f"^{_SIZE.pattern}$")


def duration() -> Kind[int]:
    return text(_duration, pattern=f"^{_DURATION.pattern}$")


def host_pattern() -> Kind[str]:
    return text(lambda value: parse_pattern(_bare(value)), minLength=1, maxLength=256)


def host() -> Kind[str]:
    return text(lambda value: normalise_host(_bare(value)), minLength=1, maxLength=254)


def method() -> Kind[str]:
    return text(check_method, enum=list(METHODS))


def path_prefix() -> Kind[str]:
    return text(check_prefix, pattern="^/")


def auth_scheme() -> Kind[str]:
    return text(check_scheme, pattern="^(?:bearer|token|basic|header:.+)$")


def upstream() -> Kind[Upstream]:
    return text(parse_upstream, pattern="^https?://[^/]+$")


def host_path() -> Kind[str]:
    return text(check_host_path, pattern="^(?:/|~/)")


def secret() -> Kind[SecretRef]:
    """Where a secret is found: never the secret."""
    words = list_of_words()
    forms: dict[type, Kind[SecretRef]] = {
        str: text(parse_secret, pattern="^(?:env|file|command):"),
        dict: record({"command": Key(words, "program and arguments; prints the secret", True)}, _command),
    }
    return by_type("env:NAME, file:PATH or command:[...]", forms)


def list_of_words() -> Kind[tuple[str, ...]]:
    """Program arguments: unlike other lists, these may repeat."""

    def read(value: object, path: KeyPath, report: Report) -> tuple[str, ...] | None:
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            return tuple(value)
        report.add(path, "expected a list of texts, the program first")
        return None

    schema: Schema = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 64}
    return Kind(read, schema)


def program() -> Kind[tuple[str, ...]]:
    """A program of the operator's and its arguments; it is found by PATH or by its whole path."""
    words = list_of_words()

    def read(value: object, path: KeyPath, report: Report) -> tuple[str, ...] | None:
        argv = words.read(value, path, report)
        if argv is None:
            return None
        if not argv[0] or ("/" in argv[0] and not argv[0].startswith("/")):
            report.add((*path, 0), "name a program, or its whole path")
            return None
        if len(argv) > 64 or any("\0" in word or len(word) > 4096 for word in argv):
            report.add(path, "a program takes at most 63 arguments of at most 4096 characters, without NUL")
            return None
        return argv

    return Kind(read, words.schema)


def names(of: Kind[str]) -> Kind[tuple[str, ...]]:
    """One name, or a list of them."""

    def read(value: object, path: KeyPath, report: Report) -> tuple[str, ...] | None:
        one = of.read(value, path, report)
        return None if one is None else (one,)

    forms: dict[type, Kind[tuple[str, ...]]] = {str: Kind(read, of.schema), list: list_of(of, least=1)}
    return by_type("a name or a list of names", forms)


def tools() -> Kind[tuple[str, ...]]:
    """A list, or text with commas between; a comma in parentheses belongs to the tool."""
    each = list_of(line(200))

    def read(value: object, path: KeyPath, report: Report) -> tuple[str, ...] | None:
        if isinstance(value, str):
            value = [word.strip() for word in _TOOL.findall(value)]
        return each.read(value, path, report)

    return Kind(read, {"anyOf": [{"type": "string"}, each.schema]})


def known_host_key() -> Kind[str]:
    return pattern(
        r"(?:ssh|ecdsa|sk)-[a-z0-9@.-]{1,60} [A-Za-z0-9+/]{16,4000}={0,2}",
        'a host key is its type and its base64, such as "ssh-ed25519 AAAA..."',
        4096,
    )


def ref() -> Kind[str]:
    """A full ref name, or a pattern of them with `*`."""
    return text(_ref, pattern=f"^{_REF.pattern}$")


def git_url() -> Kind[str]:
    """https, ssh, the scp form or an absolute file URL; never ext: or an option, and no password inside."""
    return pattern(
        r"(?:file://|https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?"
        r"|ssh://(?:[A-Za-z0-9_.][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?)"
        r"/[A-Za-z0-9_.~+/-]+"
        r"|(?:[A-Za-z0-9_.][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:[A-Za-z0-9_.~+][A-Za-z0-9_.~+/-]*",
        "a repository is https://HOST/PATH, ssh://[USER@]HOST/PATH, [USER@]HOST:PATH or file:///PATH",
        1000,
    )


def git_identity() -> Kind[str]:
    """A name or an e-mail address, as git config takes it."""
    plain = line(200)

    def read(value: object, path: KeyPath, report: Report) -> str | None:
        checked = plain.read(value, path, report)
        if checked is not None and set(checked) & set("<>"):
            report.add(path, 'git does not take "<" or ">" here')
            return None
        return checked

    return Kind(read, plain.schema)


def _command(values: dict[str, Any], path: KeyPath, report: Report) -> SecretRef | None:
    try:
        return check_secret("command", values["command"])
    except ValueError as error:
        report.add((*path, "command"), str(error))
        return None


def _env_value(value: str) -> EnvValue:
    if "\0" in value or len(value) > MAX_TEXT:
        raise ValueError("an environment value has no NUL and is not over 1 MiB")
    if value.startswith("?"):
        question = value[1:].strip()
        if not question.isprintable() or len(question) > 200:
            raise ValueError("the question is one printable line of at most 200 characters")
        return EnvValue("ask", question)
    if whole := _HOST_VARIABLE.fullmatch(value):
        if not ENV_NAME.fullmatch(whole[1]):
            raise ValueError("${...} holds the name of one environment variable of the host")
        return EnvValue("host", whole[1])
    if "${" in value:
        raise ValueError("${NAME} can only be the whole value; it is not replaced inside a text")
    return EnvValue("literal", value)


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError('a size is a whole number with K, M, G or T, such as "512M"')
    return int(match[1]) << _POWER[match[2]]


def _duration(value: str) -> int:
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError('a duration is a whole number with s, m or h, such as "90s"')
    return int(match[1]) * _SECONDS[match[2]]


def _bare(value: str) -> str:
    if "://" in value or "/" in value:
        raise ValueError("expected a bare host, without scheme or path")
    if value.count(":") == 1:
        raise ValueError("expected a bare host; a route names its ports in `ports`")
    return value


def _ref(value: str) -> str:
    bad = ("..", "//", "/.", "./")
    if len(value) > 250 or not _REF.fullmatch(value) or any(part in value for part in bad):
        raise ValueError('a ref is written in full, such as "refs/heads/agent/*"')
    if value.endswith(("/", ".", ".lock")):
        raise ValueError("not a name that git takes for a ref")
    return value
