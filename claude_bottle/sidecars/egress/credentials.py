"""From a route's `auth` and a secret's value to the header that is added outside the bottle. Pure.

Invariant: no value that could start a second header line gets out, and none is ever part of an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from claude_bottle.errors import BottleError
from claude_bottle.policy.model import Auth, Route

Headers = tuple[tuple[str, str], ...]


def credential_header(auth: Auth, value: str) -> tuple[str, str]:
    """RFC 6750 (bearer), RFC 7617 (basic); `token` is GitHub's word. Raises BottleError."""
    if not value or not value.isascii() or any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
        raise BottleError(
            f"the secret {auth.secret.kind} is empty or has characters that no header can carry"
        )
    if auth.scheme == "bearer":
        return ("authorization", f"Bearer {value}")
    if auth.scheme == "token":
        return ("authorization", f"token {value}")
    if auth.scheme == "basic":
        from base64 import b64encode

        return ("authorization", f"Basic {b64encode(value.encode()).decode()}")
    kind, _, name = auth.scheme.partition(":")
    if kind != "header" or not name:
        raise BottleError("the route has an unknown auth scheme")
    return (name.lower(), value)


def credentials_from(values: Mapping[str, str]) -> Callable[[Route], Headers | None]:
    """`values` is by `str(SecretRef)`. The answer raises BottleError where the value is missing."""

    def credential_for(route: Route) -> Headers | None:
        if route.auth is None:
            return None
        value = values.get(str(route.auth.secret))
        if value is None:
            raise BottleError("the credential of this route was not handed to the bundle")
        return (credential_header(route.auth, value),)

    return credential_for
