"""Which colours a terminal gets."""

from __future__ import annotations

import pytest
from textual.theme import BUILTIN_THEMES

from claude_bottle.dashboard.open import theme_for


@pytest.mark.parametrize(
    ("asked", "environment", "theme"),
    [
        ("dark", {"TERM": "xterm"}, "textual-dark"),
        ("light", {}, "textual-light"),
        ("terminal", {"TERM": "xterm-256color"}, "ansi-dark"),
        ("auto", {"TERM": "xterm-256color"}, "textual-dark"),
        ("auto", {"TERM": "xterm", "COLORTERM": "truecolor"}, "textual-dark"),
        ("auto", {"TERM": "xterm-256color", "COLORFGBG": "0;15"}, "textual-light"),
        ("auto", {"TERM": "xterm-256color", "COLORFGBG": "15;default;0"}, "textual-dark"),
        ("auto", {"TERM": "xterm-256color", "COLORFGBG": "nonsense"}, "textual-dark"),
        ("auto", {"TERM": "xterm"}, "ansi-dark"),
        ("auto", {"TERM": "linux"}, "ansi-dark"),
        ("auto", {}, "ansi-dark"),
    ],
)
def test_a_terminal_of_few_colours_keeps_its_own(asked: str, environment: dict[str, str], theme: str) -> None:
    assert theme_for(asked, environment) == theme
    assert theme in BUILTIN_THEMES
