"""The errors a user may see. Each is one short message, an optional hint, and an exit code.

Invariant: whatever a user's mistake or a broken host can cause ends as a `BottleError`;
any other exception is a bug in claude-bottle.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_DENIED = 4
EXIT_BACKEND_MISSING = 5


class BottleError(Exception):
    """Something the user can understand and mend: what failed, and what to do next."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BottleError):
    """The command line, or an answer to it, cannot be carried out as given."""

    exit_code = EXIT_USAGE


class NotFoundError(BottleError):
    """A named thing (agent, bottle, slug, file) does not exist."""

    exit_code = EXIT_NOT_FOUND


class DeniedError(BottleError):
    """Policy forbids what was asked for."""

    exit_code = EXIT_DENIED


class BackendMissingError(BottleError):
    """The backend, or a part of the host it needs, is missing or unfit."""

    exit_code = EXIT_BACKEND_MISSING
