"""An approval for good: exactly one route more in the operator's file, or a refusal that leaves it alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.manifest.load import load_manifest
from claude_bottle.operations.always import prepare
from claude_bottle.operations.context import Context
from claude_bottle.operations.proposals import Waiting
from claude_bottle.policy.model import Auth, Route, SecretRef
from claude_bottle.policy.proposals import EGRESS, Asked, Proposal
from claude_bottle.proc import SystemRunner
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import Home, open_home

ROUTE = Route("new.example.org", methods=("GET",))
BOTTLE = "---\n# mine\negress:\n  routes:\n    - host: a.example.org  # first\n---\nWords.\n"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    home = open_home(Home(tmp_path / "home"))
    (home.root / "bottles" / "dev.md").write_text(BOTTLE)
    (home.root / "agents" / "a.md").write_text("---\nbottle: dev\n---\nWork.\n")
    return Context(home, SystemRunner({}), {}, tmp_path)


def waiting(context: Context, route: Route = ROUTE, bottle: str = "dev") -> Waiting:
    metadata = Metadata("a-12345", "a", bottle, "bubblewrap", 1.0, "none", "/", "0")
    context.home.bottle("a-12345").root.mkdir(exist_ok=True)
    store.save(context.home, metadata)
    return Waiting(
        "a-12345", "a", "bubblewrap", Proposal("p-0123456789", Asked(EGRESS, "why", route), time.time())
    )


def test_it_is_written_as_it_was_shown_with_its_mode_and_its_comments(context: Context) -> None:
    path = context.home.root / "bottles" / "dev.md"
    path.chmod(0o640)
    made = prepare(context, waiting(context), None)
    assert path.read_text() == BOTTLE
    assert [line for line in made.difference if line.startswith("-") and not line.startswith("---")] == []
    made.finish.write()
    assert path.stat().st_mode & 0o777 == 0o640
    text = path.read_text()
    assert text.startswith("---\n# mine\negress:\n  routes:\n    - host: a.example.org  # first\n")
    routes = load_manifest(context.home.root).manifest.bottles["dev"].egress.routes
    assert [route._replace(origin="") for route in routes] == [Route("a.example.org"), ROUTE]


def test_on_a_host_with_a_way_of_its_own_it_goes_that_way(context: Context) -> None:
    path = context.home.root / "bottles" / "dev.md"
    path.write_text(
        "---\negress:\n  routes:\n    - host: new.example.org\n      paths: [/v1]\n      upstream: http://127.0.0.1:81\n---\n"
    )
    prepare(context, waiting(context), None).finish.write()
    routes = load_manifest(context.home.root).manifest.bottles["dev"].egress.routes
    assert [route.methods for route in routes] == [(), ("GET",)]
    assert {str(route.upstream) for route in routes} == {"http://127.0.0.1:81"}


def test_a_link_to_the_file_stays_a_link(context: Context, tmp_path: Path) -> None:
    path, real = context.home.root / "bottles" / "dev.md", tmp_path / "dotfiles.md"
    path.rename(real)
    path.symlink_to(real)
    prepare(context, waiting(context), None).finish.write()
    assert path.is_symlink()
    assert "new.example.org" in real.read_text()


def test_line_breaks_of_another_kind_stay(context: Context) -> None:
    path = context.home.root / "bottles" / "dev.md"
    path.write_bytes(b"\xef\xbb\xbf" + BOTTLE.replace("\n", "\r\n").encode())
    prepare(context, waiting(context), None).finish.write()
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf---\r\n")
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert b"new.example.org" in raw


def test_a_file_that_was_changed_meanwhile_is_left_alone(context: Context) -> None:
    made = prepare(context, waiting(context), None)
    path = context.home.root / "bottles" / "dev.md"
    path.write_text(BOTTLE + "More words.\n")
    with pytest.raises(BottleError, match="meanwhile"):
        made.finish.write()
    assert path.read_text() == BOTTLE + "More words.\n"


def test_what_would_replace_an_inherited_rule_is_refused(context: Context) -> None:
    """A bottle that names a host says all about it, so its parent's rules for it would go."""
    bottles = context.home.root / "bottles"
    (bottles / "base.md").write_text(
        "---\negress:\n  routes:\n    - {host: new.example.org, methods: [POST]}\n---\n"
    )
    (bottles / "dev.md").write_text("---\nextends: base\n---\n")
    with pytest.raises(BottleError, match="other routes"):
        prepare(context, waiting(context), None)


def test_claude_s_own_host_is_refused_as_it_would_replace_its_rules(context: Context) -> None:
    with pytest.raises(BottleError, match="cannot be written"):
        prepare(context, waiting(context, Route("api.anthropic.com", methods=("GET",))), None)


def test_a_host_of_the_allowlist_is_refused_as_it_would_not_be_taken(context: Context) -> None:
    (context.home.root / "bottles" / "dev.md").write_text(
        "---\negress:\n  allowlist: [new.example.org]\n---\n"
    )
    with pytest.raises(BottleError, match="cannot be written"):
        prepare(context, waiting(context), None)


def test_bottles_that_extend_it_get_it_too(context: Context) -> None:
    bottles = context.home.root / "bottles"
    (bottles / "child.md").write_text("---\nextends: dev\n---\n")
    (bottles / "other.md").write_text("---\n---\n")
    prepare(context, waiting(context), None).finish.write()
    loaded = load_manifest(context.home.root).manifest.bottles
    hosts = {name: [route.host for route in bottle.egress.routes] for name, bottle in loaded.items()}
    assert hosts == {
        "dev": ["a.example.org", "new.example.org"],
        "child": ["a.example.org", "new.example.org"],
        "other": [],
    }


def test_a_combination_of_bottles_is_left_to_the_operator_with_the_text_to_add(context: Context) -> None:
    with pytest.raises(BottleError, match="combines") as raised:
        prepare(context, waiting(context, bottle="dev+other"), None)
    assert "host: new.example.org" in str(raised.value.hint)


def test_an_agent_gets_no_credential_by_asking(context: Context) -> None:
    route = ROUTE._replace(auth=Auth("bearer", SecretRef("env", ("TOKEN",))))
    with pytest.raises(BottleError, match="only an operator gives"):
        prepare(context, waiting(context, route), None)
