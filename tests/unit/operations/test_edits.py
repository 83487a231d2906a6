"""The operator's view of a policy in force, and plans to change it: what is meant, and never more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from claude_bottle.errors import NotFoundError, UsageError
from claude_bottle.manifest.problems import ManifestError
from claude_bottle.operations.context import Context
from claude_bottle.operations.deciding import Seen
from claude_bottle.operations.edits import (
    Plan,
    Which,
    adding,
    as_json,
    described,
    items_of,
    left,
    preview,
    provenance,
    removing,
    rewriting,
    seen_of,
    still_allowed,
    text_of,
)
from claude_bottle.policy.edits import Change
from claude_bottle.policy.live import UNBOUNDED, Bounds, LivePolicy, LiveRoute
from claude_bottle.policy.model import Auth, Route, SecretRef
from claude_bottle.policy.proposals import Queue
from claude_bottle.state.paths import Home
from tests.support.fake_runner import FakeRunner

LOGIN = Auth("bearer", SecretRef("login", ("/home/o/.claude/.credentials.json",)))
COMMAND = Auth("bearer", SecretRef("command", ("pass", "show", "of-the-operator")))
OWN = LiveRoute(Route("api.anthropic.com", methods=("POST",), origin="claude-bottle"))
COMPLETED = LiveRoute(Route("login.example.org", auth=LOGIN, origin="dev.md:3"))
RULE = LiveRoute(Route("docs.example.org", paths=("/v1",), auth=COMMAND, origin="dev.md:7"))
BARE = LiveRoute(Route("bare.example.org", origin="dev.md:9"))
GRANT = LiveRoute(Route("docs.example.org", methods=("GET",), origin="p-1"), Bounds(1600.0, 2), "d-1")
ENDED = LiveRoute(Route("over.example.org"), Bounds(900.0), "d-2")
SEEN = Seen(LivePolicy((OWN, COMPLETED, RULE, BARE, GRANT, ENDED), 7), Queue(), 1000.0)


def planned(plan: Plan, seen: Seen = SEEN) -> Change:
    return preview(seen, plan)


def rewritten(text: str, key: str = "routes", seen: Seen = SEEN) -> Change:
    return planned(rewriting(text, "f.yaml", key, text_of(seen, key, "a-00000")[1]), seen)


def test_what_has_ended_is_not_in_force_and_the_allowlist_has_bare_hosts() -> None:
    assert items_of(SEEN, "routes") == (OWN, COMPLETED, RULE, BARE, GRANT)
    assert items_of(SEEN, "allowlist") == (BARE,)


def test_an_editor_is_given_what_the_manifest_has_words_for() -> None:
    text, written = text_of(SEEN, "routes", "a-00000")
    assert written == (RULE, BARE, GRANT)
    assert "# Beside these, and not to be edited: api.anthropic.com" in text
    assert "# Beside these, and not to be edited: login.example.org" in text
    assert "- host: login.example.org" not in text
    assert "# dev.md:7; no bound\n- host: docs.example.org\n" in text
    assert "# decision d-1 (p-1); 10m left, 2 uses left\n" in text
    assert rewritten(text) == Change()


def test_a_text_without_a_rule_takes_it_away_and_no_other() -> None:
    text, _ = text_of(SEEN, "routes", "a-00000")
    cut = text.replace("- host: bare.example.org\n", "")
    assert rewritten(cut) == Change((BARE,), ())
    assert rewritten("routes: []\n").gone == (RULE, BARE, GRANT)  # Claude's own stay


def test_what_is_written_new_says_where_it_comes_from() -> None:
    text, _ = text_of(SEEN, "routes", "a-00000")
    (new,) = rewritten(text + "- host: new.example.org\n").new
    assert (new.route.origin, new.bounds) == ("routes edit", UNBOUNDED)


def test_an_allowlist_is_edited_alone_and_widens_no_rule() -> None:
    text, written = text_of(SEEN, "allowlist", "a-00000")
    assert written == (BARE,)
    assert rewritten(text, "allowlist") == Change()
    assert rewritten("allowlist: []\n", "allowlist") == Change((BARE,), ())
    with pytest.raises(UsageError, match=r"docs\.example\.org has a rule already"):
        rewritten("allowlist:\n- docs.example.org\n", "allowlist")


def test_a_bad_text_is_refused_with_its_place() -> None:
    with pytest.raises(ManifestError, match=r"f\.yaml:2:3: routes\[0\]\.host"):
        rewritten("routes:\n- host: a b\n")
    with pytest.raises(UsageError, match="another route of this host and port"):
        rewritten("routes:\n- host: api.anthropic.com\n  inspect: false\n")


def test_bounds_are_counted_from_the_bundles_clock() -> None:
    (new,) = planned(adding([Route("new.example.org")], "routes", 1800.0, 3)).new
    assert new.bounds == Bounds(2800.0, 3)
    assert new.route.origin == "routes add"
    assert planned(adding([Route("bare.example.org")], "allowlist", None, None)) == Change()
    with pytest.raises(UsageError, match="would widen"):
        planned(adding([Route("docs.example.org")], "allowlist", None, None))


def test_removed_is_what_was_named() -> None:
    def removed(which: Which, key: str = "routes", *, every: bool = False) -> tuple[LiveRoute, ...]:
        return planned(removing([which], key, "a-00000", every=every)).gone

    assert removed(Which("bare.example.org")) == (BARE,)
    assert removed(Which("bare.example.org"), "allowlist") == (BARE,)
    assert removed(Which("docs.example.org", paths=("/v1",))) == (RULE,)
    assert removed(Which("docs.example.org", methods=("GET",))) == (GRANT,)
    assert removed(Which("docs.example.org", decision="d-1")) == (GRANT,)
    assert removed(Which("docs.example.org"), every=True) == (RULE, GRANT)
    assert removed(Which("api.anthropic.com")) == (OWN,)  # where it is named, Claude's own too
    with pytest.raises(UsageError) as caught:
        removed(Which("docs.example.org"))
    assert "docs.example.org has 2 rules:" in caught.value.message
    assert "(dev.md:7)" in caught.value.message
    assert "(decision d-1 (p-1))" in caught.value.message


@pytest.mark.parametrize(
    ("which", "key", "hint"),
    [
        (Which("doc.example.org"), "routes", r'did you mean "docs\.example\.org"\?'),
        (Which("none.example.net"), "routes", "known: api.anthropic.com, bare.example.org"),
        (Which("x.wild.example"), "routes", r"allowed by \*\.wild\.example"),
        (Which("docs.example.org", ports=(8443,)), "routes", "routes show"),
        (Which("docs.example.org"), "allowlist", "of another form"),
    ],
)
def test_what_is_not_there_is_not_found(which: Which, key: str, hint: str) -> None:
    wild = LiveRoute(Route("*.wild.example"))
    seen = SEEN._replace(live=SEEN.live._replace(routes=(*SEEN.live.routes, wild)))
    with pytest.raises(NotFoundError) as caught:
        planned(removing([which], key, "a-00000", every=True), seen)
    assert caught.match("has no such rule")
    assert re.search(hint, str(caught.value.hint))


def test_what_still_allows_a_host_is_said() -> None:
    policy = LivePolicy((LiveRoute(Route("*.example.org", ports=(8443,))),), 1)
    assert still_allowed(policy, "a.example.org") == "*.example.org"
    assert still_allowed(policy, "example.org") == ""


def test_a_bottle_of_which_the_archive_is_left_has_ended(tmp_path: Path) -> None:
    context = Context(Home(tmp_path), FakeRunner(()), {}, tmp_path)
    with pytest.raises(NotFoundError):
        seen_of(context, "agent-00000")
    context.home.archive("agent-00000").mkdir(parents=True)
    with pytest.raises(UsageError, match="agent-00000 has ended"):
        seen_of(context, "agent-00000")


def test_words() -> None:
    assert left(UNBOUNDED, 0) == "no bound"
    assert left(Bounds(4859.0, 1), 0) == "1h20m left, 1 use left"
    assert provenance(LiveRoute(Route("a.example"))) == "not known"
    assert described(BARE, 0) == "bare.example.org  any method  any path  (dev.md:9; no bound)"


def test_a_secrets_arguments_are_not_told() -> None:
    for text in (described(RULE, 0), str(as_json(RULE))):
        assert "of-the-operator" not in text
        assert "command:pass" in text
    assert as_json(GRANT)["until"] == 1600.0
    assert (as_json(GRANT)["decision"], as_json(RULE)["decision"]) == ("d-1", None)
