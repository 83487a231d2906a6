"""An operator beside a test, who sees what agents ask for and answers it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.e2e import Cli, eventually


class Operator:
    """Sees what is asked and answers it, by commands of their own."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli

    def asked(self) -> list[dict[str, Any]]:
        found = self._cli("proposals", "--all", "--json").ok().json["proposals"]
        assert isinstance(found, list)
        return found

    def pending(self, times: int = 1) -> str:
        """The one that waits, once it was asked so often."""
        found: list[str] = []

        def waits() -> bool:
            found[:] = [
                item["id"] for item in self.asked() if item["answer"] is None and item["times"] >= times
            ]
            return bool(found)

        eventually(waits)
        (ident,) = found
        return ident

    def approve(self, *bounds: str, times: int = 1) -> None:
        self._cli("proposals", "approve", self.pending(times), *bounds).ok()

    def reject(self, reason: str, times: int = 1) -> None:
        self._cli("proposals", "reject", self.pending(times), "--reason", reason).ok()


@contextmanager
def beside(work: Any) -> Iterator[list[Any]]:
    """What the operator does while the agent waits; its result, or its error, is the test's."""
    done: list[Any] = []

    def running() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            done.append(error)

    thread = threading.Thread(target=running, daemon=True)
    thread.start()
    yield done
    thread.join(60)
    assert done
    if isinstance(done[0], BaseException):
        raise done[0]
