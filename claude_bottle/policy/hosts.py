"""Host names, IP literals, host patterns and public addresses, judged without a resolver.

Invariant: what leaves this module is canonical (lower-case ASCII, no trailing dot, one
spelling for one host), so that later checks may compare text with text. A name and an IP
literal are different kinds: no text is both, and whatever a C library might read as an
address in an odd spelling (hex, octal, short forms) is neither.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

MAX_NAME = 253

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER_LIKE = re.compile(r"[0-9]+|0x[0-9a-f]*")

_NOT_PUBLIC_4 = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",  # "this network"; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds keep their metadata service here
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host service: public by its number only
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# IPv6 is judged the other way round: global unicast only, less what is special within it. So loopback,
# v4-mapped, NAT64 (64:ff9b::/96, 64:ff9b:1::/48), ULA, link-local, site-local and multicast all fall outside.
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    ip_network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address
        "3fff::/20",
    )
)


class InvalidHost(ValueError):
    """The text is not a host that may be compared, resolved or dialled. Never echoes the text."""


def normalise_name(text: str) -> str:
    """The canonical form of a DNS name. IP literals are refused here."""
    if not text:
        raise InvalidHost("the host name is empty")
    if len(text) > MAX_NAME + 1:
        raise InvalidHost(f"the host name is longer than {MAX_NAME} characters")
    name = _to_ascii(text[:-1] if text.endswith(".") else text)
    if len(name) > MAX_NAME:
        raise InvalidHost(f"the host name is longer than {MAX_NAME} characters")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidHost("a host name is made of letters, digits and inner hyphens, joined by single dots")
    if _NUMBER_LIKE.fullmatch(labels[-1]):
        raise InvalidHost("the host looks like an IP address but is no name")
    return name


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address that `text` spells in full (IPv6 with or without brackets), or None."""
    if len(text) > 47 or "%" in text:  # a zone index names an interface of this very machine
        return None
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        return None
    return None if bracketed and address.version == 4 else address


def normalise_host(text: str) -> str:
    """The canonical form of a name or of an IP literal (without brackets); `parse_ip` tells which it is."""
    address = parse_ip(text)
    return normalise_name(text) if address is None else str(address)


def parse_pattern(text: str) -> str:
    """The canonical form of a host pattern: an exact host, or `*.` and a name of two labels or more."""
    if not text.startswith("*"):
        return normalise_host(text)
    if not text.startswith("*."):
        raise InvalidHost('a wildcard is written "*.example.org"')
    suffix = normalise_name(text[2:])
    if "." not in suffix:
        raise InvalidHost("a wildcard needs two labels or more after the star")
    return f"*.{suffix}"


def matches(pattern: str, host: str) -> bool:
    """Whether a canonical pattern covers a canonical host. A wildcard never covers its own apex."""
    if not pattern.startswith("*."):
        return pattern == host
    return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1


def specificity(pattern: str) -> tuple[int, int]:
    """A sort key: exact hosts first, then wildcards, those with the longest suffix first."""
    return (1, -pattern.count(".")) if pattern.startswith("*.") else (0, 0)


def is_public_address(ip: str | IPv4Address | IPv6Address) -> bool:
    """Whether an address is on the public internet. What is not surely so is refused."""
    address = parse_ip(ip) if isinstance(ip, str) else ip
    if address is None:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _NOT_PUBLIC_4)
    if address.scope_id is not None or address not in _PUBLIC_6:
        return False
    return not any(address in block for block in _NOT_PUBLIC_6)


def _to_ascii(name: str) -> str:
    """Lower-case ASCII; other scripts only where encoding and decoding gives the very same text back.

    So full-width letters, odd dots, invisible characters and the Kelvin sign, which all fold into plain
    ASCII, are refused and not mapped.
    """
    if name.isascii():
        return name.lower()
    lowered = "".join(char.lower() if char.isascii() else char for char in name)
    try:
        encoded = lowered.encode("idna")
        returned = encoded.decode("idna")
    except UnicodeError:
        raise InvalidHost("the host name cannot be written as an ASCII name") from None
    if returned != lowered:
        raise InvalidHost("the host name has a second spelling; write it in lower case, or in its xn-- form")
    return encoded.decode("ascii")
