"""An engine that knows beforehand what it will be asked: another question fails the test, and so does a missing one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.backend.docker.api import EngineError, Line

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Writer

JSON = Mapping[str, object] | list[object]


class Question(NamedTuple):
    """What was asked; `sent` is the whole of a body that was streamed."""

    method: str
    path: str
    query: Mapping[str, object]
    body: object
    timeout: float
    sent: bytes = b""


Answer = bytes | JSON | Line | EngineError | Callable[[Question], "bytes | JSON | Line | EngineError"]
Expected = tuple[tuple[object, ...], Answer]


class UnexpectedQuestion(AssertionError):
    """Something was asked that the test does not know of."""


class MissingQuestion(AssertionError):
    """Something that the test waits for was not asked."""


class FakeEngine:
    """Answers the expected questions: (method, path), where it matters the query, where it matters the body.

    In their order, or, as threads ask at once, in `any_order`. SEND and CONVERSE are methods of their own.
    """

    def __init__(
        self, expected: Iterable[Expected], headers: Mapping[str, str] | EngineError, *, any_order: bool
    ) -> None:
        self._left = list(expected)
        self._headers = headers
        self._any_order = any_order
        self._lock = threading.Lock()
        self.questions: list[Question] = []

    def ping(self) -> Mapping[str, str]:
        if isinstance(self._headers, EngineError):
            raise self._headers
        return self._headers

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        limit: int = 64 << 20,
        timeout: float = 60.0,
    ) -> bytes:
        found = self._answer(Question(method, path, dict(query or {}), body, timeout))
        assert isinstance(found, bytes)
        if len(found) > limit:
            raise EngineError(f"the answer is longer than {limit} bytes")
        return found

    def send(
        self, path: str, write: Callable[[Writer], None], *, query: Mapping[str, object] | None = None
    ) -> None:
        sent = bytearray()
        write(sent.extend)
        self._answer(Question("SEND", path, dict(query or {}), None, 60.0, bytes(sent)))

    def converse(self, path: str, body: object = None) -> Line:
        found = self._answer(Question("CONVERSE", path, {}, body, 60.0))
        assert isinstance(found, Line)
        return found

    def _answer(self, question: Question) -> bytes | Line:
        with self._lock:
            answer = self._take(question)
            self.questions.append(question)
        found = answer(question) if callable(answer) else answer
        if isinstance(found, EngineError):
            raise found
        return found if isinstance(found, bytes | Line) else json.dumps(found).encode()

    def _take(self, question: Question) -> Answer:
        near = self._left if self._any_order else self._left[:1]
        for place, (asked, answer) in enumerate(near):
            if asked == question[: len(asked)]:
                del self._left[place]
                return answer
        expected = [list(asked) for asked, _ in near] or "nothing more"
        raise UnexpectedQuestion(f"{expected} was expected, but {list(question[:4])} came")

    def check_finished(self) -> None:
        if self._left:
            raise MissingQuestion(f"never asked: {[list(asked) for asked, _ in self._left]}")


@contextmanager
def fake_engine(
    *expected: Expected, headers: Mapping[str, str] | EngineError | None = None, any_order: bool = False
) -> Iterator[FakeEngine]:
    """Fails at the end of the block if an expected question was not asked."""
    engine = FakeEngine(expected, {} if headers is None else headers, any_order=any_order)
    yield engine
    engine.check_finished()


def refuses(status: int, message: str = "no") -> EngineError:
    return EngineError(message, status)
