"""A command that has ended, and what a test asks of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def talk(self) -> str:
        return self.err.decode(errors="replace")

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.text.splitlines()]

    def ok(self) -> Done:
        assert self.status == 0, self.everything
        return self

    def failed(self, status: int, *words: str) -> Done:
        """Ended as an error should: this status, these words, nothing on stdout, and no traceback."""
        assert self.status == status, self.everything
        assert "Traceback" not in self.talk, self.everything
        assert not [word for word in words if word not in self.talk], self.everything
        assert self.out == b"", self.everything
        return self

    @property
    def everything(self) -> str:
        return (
            f"status {self.status}\n--- stdout\n{self.out.decode(errors='replace')}\n--- stderr\n{self.talk}"
        )
