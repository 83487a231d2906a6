"""One call in a thread of its own, whose result, or error, is had by waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Self, TypeVar

_Result = TypeVar("_Result")


class Beside(Generic[_Result]):
    """Begins at once."""

    def __init__(self, call: Callable[[], _Result]) -> None:
        self._call = call
        self._results: list[_Result] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait(self) -> _Result:
        """Raises what the call has raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._results[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits in any case; an error of whoever waited comes first."""
        if kind is None:
            self.wait()
        else:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._failure = error
