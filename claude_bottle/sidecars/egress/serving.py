"""What Envoy is told to serve while it runs, and whether it does.

Theory. Envoy watches its two files, each by itself, and acts on them in one thread. It keeps the listener and
the chains that stay as they were, with their connections; what is new is there for whoever connects next.
Nothing says when, so it is asked: the path that the probe uses answers with a mark of all that the chain was
made from. Where the clusters change as well, the listeners are written twice: by the time that Envoy
serves the first of the two it has been woken for the clusters too, and has read them before it reads again.

Invariant: `let_in` returns only when a new connection meets what was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from claude_bottle.errors import BottleError
from claude_bottle.sidecars.child import write_for_envoy
from claude_bottle.sidecars.egress.envoy import (
    EARLY,
    LISTENER_SOCKET,
    MARK_HEADER,
    PROBE_PATH,
    Ways,
    envoy_clusters,
    envoy_listeners,
)
from claude_bottle.sidecars.egress.envoy_start import CLUSTERS_FILE, LISTENERS_FILE

if TYPE_CHECKING:
    import ssl

    from claude_bottle.sidecars.egress.outlets import Chain

_SECONDS = 4.0  # less than the operator waits
_PAUSE = 0.003


class Serving:
    """Envoy's two files. `told` is what they say."""

    def __init__(self, authorities: str, uid: int | None, write_more: Callable[[], None]) -> None:
        self.told = Ways()
        self._is_written = True  # false where a file could not be: then nobody knows what Envoy was told
        self._authorities = authorities
        self._uid = uid
        self._write_more = write_more

    def write(self) -> None:
        """All of it, from memory: whoever took over the Envoy that ended could write its files. OSError."""
        self._is_written = False
        self._write_more()
        write_for_envoy(CLUSTERS_FILE, envoy_clusters(self.told, self._authorities), self._uid)
        write_for_envoy(LISTENERS_FILE, envoy_listeners(self.told), self._uid)
        self._is_written = True

    def tell(self, ways: Ways, early: Collection[str] = ()) -> None:
        """Raises OSError; whatever it is told next is then written whole."""
        if ways == self.told and not early and self._is_written:
            return
        others = self._changes_clusters(ways)
        self.told, self._is_written = ways, False
        if others:
            write_for_envoy(CLUSTERS_FILE, envoy_clusters(ways, self._authorities), self._uid)
        write_for_envoy(LISTENERS_FILE, envoy_listeners(ways, early), self._uid)
        self._is_written = True

    async def let_in(self, ways: Ways) -> None:
        """Raises BottleError where Envoy does not come to serve it in time, OSError."""
        new = [chain.host for chain in ways.chains if not _is_served(chain, ways, self.told)]
        async with _in_time():
            if self._changes_clusters(ways):
                self.tell(ways, new)
                await self._served(ways, new, EARLY)
                write_for_envoy(LISTENERS_FILE, envoy_listeners(ways), self._uid)
            else:
                self.tell(ways)
            await self._served(ways, new, "")

    def _changes_clusters(self, ways: Ways) -> bool:
        return not self._is_written or envoy_clusters(ways, "") != envoy_clusters(self.told, "")

    async def _served(self, ways: Ways, hosts: Iterable[str], early: str) -> None:
        context = _unverified()
        for host in hosts:
            chain = next(chain for chain in ways.chains if chain.host == host)
            mark = early + ways.mark(host)
            while await _mark_of(chain, context) != mark:  # noqa: ASYNC110 - nothing tells when
                await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_SECONDS):
            yield
    except TimeoutError:
        raise BottleError("Envoy does not serve what it was told", "look at its log") from None


def _is_served(chain: Chain, ways: Ways, told: Ways) -> bool:
    return chain in told.chains and told.mark(chain.host) == ways.mark(chain.host)


def _unverified() -> ssl.SSLContext:
    """The mark says more than the certificate does."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _mark_of(chain: Chain, context: ssl.SSLContext) -> str:
    """Empty where there is no answer, or one without."""
    name = chain.host.replace("*", "claude-bottle-probe", 1)
    port = chain.outlets[0].target.port
    try:
        reader, writer = await asyncio.open_unix_connection(
            LISTENER_SOCKET, ssl=context, server_hostname=name
        )
        try:
            request = f"GET {PROBE_PATH} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.transport.abort()
    except (OSError, EOFError, asyncio.LimitOverrunError):  # ssl.SSLError is an OSError
        return ""
    for line in head.decode("latin-1").split("\r\n"):
        key, _, value = line.partition(": ")
        if key == MARK_HEADER:
            return value
    return ""
