"""The frame of every modal: a title, a body that scrolls, what stands fixed below it, and the keys.

Invariant: Esc leaves with nothing done. Where a modal asks something that the operator did not open by hand
(`GRACE`), no key and no click that was made before it had been on the screen for so long reaches it: a hand
that types on answers nothing. The keys are shown once they apply.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.geometry import Size
from textual.screen import ModalScreen

from claude_bottle.dashboard.modals.painted import Folded, Hint, Hints, More, Painted

Result = TypeVar("Result")
Clock = Callable[[], float]
BACK = Hint("escape", "Esc", "back")
_BORDER = (4, 2)  # cells that the frame takes, its padding with it

_SCROLL: dict[str, Callable[[Painted], int]] = {
    "down": lambda body: 1,
    "j": lambda body: 1,
    "up": lambda body: -1,
    "k": lambda body: -1,
    "pagedown": lambda body: body.size.height - 1,
    "space": lambda body: body.size.height - 1,
    "pageup": lambda body: 1 - body.size.height,
    "g": lambda body: -body.virtual_size.height,
    "home": lambda body: -body.virtual_size.height,
    "G": lambda body: body.virtual_size.height,
    "end": lambda body: body.virtual_size.height,
}


class Sheet(ModalScreen[Result]):
    DEFAULT_CSS = """
    Sheet { align: center middle; background: $background 60%; }
    Sheet > Vertical { border: round $primary; background: $surface; color: $foreground; padding: 0 1; }
    """
    AUTO_FOCUS: ClassVar[str | None] = ""
    WIDTH: ClassVar[int] = 78
    TALL: ClassVar[bool] = False  # takes the whole height, whatever there is to show
    GRACE: ClassVar[float] = 0.0  # seconds

    def __init__(
        self, body: Painted, foot: Sequence[Painted], hints: Sequence[Hint], clock: Clock = time.monotonic
    ) -> None:
        super().__init__()
        self.body = body
        self.hints = Hints(hints)
        head = Folded(lambda width: self.heading(width))
        self._fixed = (head, *foot, self.hints)
        self._box = Vertical(head, body, *foot, self.hints)
        self._size_fitted: Size | None = None
        self._clock = clock
        self._seen: float | None = None  # when it came onto the screen
        self.hints.awake = not self.GRACE

    def heading(self, width: int) -> Sequence[Text]:
        raise NotImplementedError

    def pressed(self, key: str, character: str | None) -> None:
        """A key that counts. `key` is the character itself where there is one."""
        if key == "escape":
            self.dismiss(None)
        elif key in _SCROLL:
            self.body.go_by(_SCROLL[key](self.body))

    def pasted(self, text: str) -> None:
        """Nothing, where nothing is written."""

    def compose(self) -> ComposeResult:
        self._fit()  # before the first layout, so that there is only one
        yield self._box

    def on_mount(self) -> None:
        self.watch(self.body, "scroll_y", self._scrolled, init=False)
        self.call_after_refresh(self.refit)  # what it was given to show before it had a place

    def on_resize(self) -> None:
        if self._size_fitted != self.app.size:
            self.refit()

    def refit(self) -> None:
        """After a change of anything that it shows; before it is composed there is nothing to fit."""
        if self._size_fitted is not None:
            self._fit()
            self.call_after_refresh(self._scrolled)

    def _fit(self) -> None:
        self._size_fitted = most = self.app.size
        width = min(self.WIDTH, most.width)
        inner = max(1, width - _BORDER[0])
        height = max(1, self.body.settle(inner)) + _BORDER[1]
        for piece in self._fixed:
            rows = piece.settle(inner)
            piece.styles.height = rows
            height += rows
        self._box.styles.width = width
        self._box.styles.height = most.height if self.TALL else min(height, most.height)

    def _scrolled(self) -> None:
        for piece in self._fixed:
            if isinstance(piece, More):
                piece.refresh()

    def on_screen_resume(self) -> None:
        """It has come, or has come back from under another."""
        if self.GRACE:
            self._seen, self.hints.awake = None, False
            self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._seen = self._clock()
        self.set_timer(self.GRACE, self._wake)

    def _wake(self) -> None:
        if self._counts(time.monotonic()):
            self.hints.awake = True
            self.hints.refresh()
        elif self.is_active:  # else it waits until it comes back
            self.set_timer(self.GRACE / 4, self._wake)

    def _counts(self, made: float) -> bool:
        """Is what was made at that moment of the machine's clock meant for this modal?"""
        if not self.is_active:
            return False
        if not self.GRACE:
            return True
        waited = max(0.0, time.monotonic() - made)
        return self._seen is not None and self._clock() - waited >= self._seen + self.GRACE

    def on_key(self, event: events.Key) -> None:
        if event.key == "ctrl+c":
            return
        event.stop()
        event.prevent_default()
        if self._counts(event.time):
            character = event.character
            printable = character is not None and character.isprintable() and character != " "
            self.pressed(character if printable and character else event.key, character)

    def on_hints_chosen(self, message: Hints.Chosen) -> None:
        message.stop()
        if self._counts(message.time):
            self.pressed(message.key, None)

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        if self._counts(event.time):
            self.pasted(event.text)
