"""What the operator reads before saying yes: every route, every variable's name, no value of either."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, cast

import pytest

from claude_bottle.backend.base import BottleBackend, BottleRequest
from claude_bottle.manifest.model import Agent, Bottle, EnvValue
from claude_bottle.operations.claude import API_KEY, Credential, routes
from claude_bottle.operations.preflight import describe, describe_route
from claude_bottle.operations.prepare import Prepared
from claude_bottle.operations.repository import Repository
from claude_bottle.operations.workspace import WorkspacePlan
from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream
from claude_bottle.state.metadata import Metadata
from tests.support.plans import request

SLUG = "reviewer-00000"
FOLDER = Path("/srv/project")
REPOSITORY = Repository(
    top=FOLDER,
    git_dir=FOLDER / ".git",
    common_dir=FOLDER / ".git",
    objects=(FOLDER / ".git" / "objects",),
    head="0123456789abcdef",
    branch="main",
    object_format="sha1",
    shallow=False,
    dirty=True,
    submodules=False,
    origin="",
)


class GlassPlan(NamedTuple):
    """The plan of a backend that is made of glass."""

    request: BottleRequest

    @property
    def backend_name(self) -> str:
        return "glass"

    def protections(self) -> tuple[str, ...]:
        return ("one wall", "another wall")

    def caveats(self) -> tuple[str, ...]:
        return ("glass breaks",)


def prepared(
    *found: Route,
    bottle: Bottle | None = None,
    workspace: WorkspacePlan | None = None,
    credential: Credential | None = API_KEY,
    warnings: tuple[str, ...] = (),
) -> Prepared:
    return Prepared(
        agent=Agent("reviewer", "plain", prompt="You are secretly purple."),
        bottle=bottle or Bottle("plain"),
        backend=cast(BottleBackend, None),  # what is shown is the plan's
        chosen="asked for",
        plan=GlassPlan(request()._replace(policy=Policy(found))),
        workspace=workspace or WorkspacePlan("clone", FOLDER, REPOSITORY, SLUG),
        metadata=Metadata(SLUG, "reviewer", "plain", "glass", 1.0, "clone", str(FOLDER), "0"),
        paths=request().paths,
        credential=credential,
        claude=Path("/srv/claude"),
        authorities=Path("/srv/authorities.pem"),
        git_user=("Ann", "ann@example.org"),
        warnings=warnings,
    )


def block(label: str, plan: Prepared) -> list[str]:
    """The texts under a label."""
    found: dict[str, list[str]] = {}
    current = ""
    for name, text in describe(plan):
        current = name or current
        assert not (name and name in found), "a label comes once"
        found.setdefault(current, []).append(text)
    return found.get(label, [])


def everything(plan: Prepared) -> str:
    return "\n".join(f"{label} {text}" for label, text in describe(plan))


def test_who_works_where_and_what_holds_it() -> None:
    plan = prepared()
    assert block("agent", plan) == [f"reviewer in bottle plain, as {SLUG}"]
    assert block("backend", plan) == ["glass (asked for)"]
    assert block("workspace", plan) == [f"clone of /srv/project at 0123456789, on branch bottle/{SLUG}"]
    assert block("held by", plan) == ["one wall", "another wall"]


@pytest.mark.parametrize(
    ("workspace", "text"),
    [
        (WorkspacePlan("none", FOLDER, None, SLUG), "none"),
        (WorkspacePlan("none", FOLDER, REPOSITORY, SLUG), "none"),
        (WorkspacePlan("copy", FOLDER, None, SLUG), "copy of /srv/project"),
        (WorkspacePlan("bind", FOLDER, REPOSITORY, SLUG), "bind of /srv/project at 0123456789"),
        (
            WorkspacePlan("clone", FOLDER, REPOSITORY._replace(head=""), SLUG),
            f"clone of /srv/project at no commit yet, on branch bottle/{SLUG}",
        ),
    ],
)
def test_each_workspace_says_what_it_is_made_of(workspace: WorkspacePlan, text: str) -> None:
    assert block("workspace", prepared(workspace=workspace)) == [text]


def test_every_route_is_there_and_then_nothing_else() -> None:
    found = (Route("a.example.org"), *routes(API_KEY, []), Route("a.example.org", methods=("POST",)))
    assert block("may reach", prepared(*found)) == [*map(describe_route, found), "nothing else"]
    assert block("may reach", prepared()) == ["nothing else"]


BEARER = Auth("bearer", SecretRef("env", ("TOKEN",)))


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (Route("a.example.org"), "a.example.org  any method  any path"),
        (
            Route("*.example.org", (443, 8443), ("GET", "HEAD"), ("/x", "/y")),
            "*.example.org:443:8443  GET,HEAD  /x /y",
        ),
        (Route("a.example.org", (8443,)), "a.example.org:8443  any method  any path"),
        (
            Route("a.example.org", inspect=False),
            "a.example.org  opaque: what is sent there is not seen",
        ),
        (
            Route("a.example.org", auth=BEARER),
            "a.example.org  any method  any path  with env:TOKEN, added outside",
        ),
        (
            Route("a.example.org", upstream=Upstream("http", "::1", 80)),
            "a.example.org  any method  any path  by http://[::1]:80",
        ),
    ],
)
def test_a_route_in_words(route: Route, text: str) -> None:
    assert describe_route(route) == text


def test_a_route_shows_where_a_secret_is_and_no_argument_of_its_command() -> None:
    command = SecretRef("command", ("/opt/helper", "--pin", "open-sesame"))
    assert "command:/opt/helper" in describe_route(Route("a.example.org", auth=Auth("bearer", command)))
    assert "open-sesame" not in everything(prepared(Route("a.example.org", auth=Auth("bearer", command))))
    kept = SecretRef("file", ("~/token",))
    assert "with file:~/token" in describe_route(Route("a.example.org", auth=Auth("bearer", kept)))


def test_variables_are_names_and_those_that_carry_something_in_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ON_THE_HOST", "the host's value")
    env = {
        "PLAIN": EnvValue("literal", "a literal value"),
        "COPIED": EnvValue("host", "ON_THE_HOST"),
        "ASKED": EnvValue("ask", "What is the password of Ann?"),
    }
    plan = prepared(bottle=Bottle("plain", env=MappingProxyType(env)))
    assert block("variables", plan) == [
        "PLAIN",
        "COPIED from the host: it DOES enter the bottle",
        "ASKED asked: it DOES enter the bottle",
    ]
    for value in ("a literal value", "the host's value", "password"):
        assert value not in everything(plan)
    assert block("variables", prepared()) == []


def test_the_prompt_is_not_part_of_it() -> None:
    assert "purple" not in everything(prepared())


def test_warnings_and_what_is_not_held_are_all_said() -> None:
    notes = block("note", prepared(warnings=("bottles/ of the project is ignored",)))
    assert notes[0] == "bottles/ of the project is ignored"
    assert notes[-1] == "glass breaks"
    assert set(WorkspacePlan("clone", FOLDER, REPOSITORY, SLUG).notes()) <= set(notes)
    assert "uncommitted changes stay behind: --carry takes them along" in notes


def test_without_an_account_the_operator_is_told() -> None:
    told = "no Claude Code account was found on this host: claude inside cannot log in"
    assert told in block("note", prepared(credential=None))
    assert told not in block("note", prepared())
