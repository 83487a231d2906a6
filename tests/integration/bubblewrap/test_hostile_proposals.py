"""What an agent writes into its proposals, or into their file, and what the operator sees of it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import CAPABILITY, EGRESS, Asked
from tests.support.bottles import make_world
from tests.support.proposing import asking, proposal

pytestmark = pytest.mark.needs("bubblewrap", "envoy", "claude")


HOSTILE = (
    "\x1b]2;owned\x07\x1b[31m\x1b[2J\x9b1m",
    "\u202egnihtyna\u2066 \u200b\ufeff \ue0061",
    "[bold red]markup[/] [@click=app.quit]here[/] <b>x</b> `rm -rf ~` $(id)",
    "../../../../etc/passwd /proc/self/environ C:\\Windows",
    "a\nproposal     p-0000000000 of somebody\nlook         nothing\r\nlook         -  fine\x0b\x0c\x85\u2028",
    "x" * 2000,
    "\t" * 2000,
    "\n" * 2000,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 200,
)


def test_nothing_that_an_agent_says_reaches_the_screen_as_it_is(tmp_path: Path) -> None:
    asks = [
        *(
            Asked(EGRESS, text, Route("a.example.org", methods=("GET",), paths=(f"/{at}",)), url=text)
            for at, text in enumerate(HOSTILE)
        ),
        *(Asked(CAPABILITY, text, dockerfile=text) for text in HOSTILE),
        Asked(EGRESS, "x", Route("xn--80ak6aa92e.com")),
        Asked(EGRESS, "x", Route("github.com.evil.example")),
    ]
    with asking(
        make_world(tmp_path, "bubblewrap"), [proposal(at, each) for at, each in enumerate(asks)]
    ) as found:
        pages = [found.cli("proposals"), found.cli("proposals", "--all")]
        assert [len(page.out.splitlines()) for page in pages] == [len(asks)] * 2
        pages += [found.cli("proposals", "show", f"p-{at:04x}abcdef") for at in range(len(asks))]
        pages += [
            found.cli("proposals", "reject", "p-0000abcdef", "--reason", HOSTILE[0]),
            found.cli("audit", "show"),
            found.cli("logs", found.slug, "proposals"),
        ]
        for page in pages:
            assert page.status == 0, page.talk
            assert [char for char in page.out + page.talk if is_dangerous(char)] == []
            assert len(page.out) < 40_000
            assert max(map(len, page.out.splitlines()), default=0) < 2200
        forged = pages[2 + 4].out.splitlines()
        assert sum(line.startswith("proposal") for line in forged) == 1
        assert "apple.com" in pages[-5].out
        assert "evil.example" in pages[-4].out


def is_dangerous(char: str) -> bool:
    return char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
