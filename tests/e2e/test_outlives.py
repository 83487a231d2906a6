"""The life of one agent, as its operator sees it: every terminal ends before it does, and so does its bottle."""

from __future__ import annotations

import pytest

from tests.support.e2e import Cli, bash, eventually, scripted
from tests.support.e2e_terminal import ask, await_written, enter_claude, leave_claude, terminal

pytestmark = pytest.mark.needs("envoy", "claude", "tmux")


def row(cli: Cli) -> dict[str, object]:
    (found,) = cli("list", "--json").ok().json["active"]
    return dict(found)


@pytest.mark.usefixtures("with_command")
def test_an_agent_outlives_its_terminals_and_its_bottle(cli: Cli) -> None:
    with scripted(
        {"prompt": {"contains": "make a mark"}, **bash("echo '# one' >> adder.py && git commit -qam One")},
        {"say": "The mark is made."},
        {"prompt": {"contains": "and now"}, "say": "Still in the first bottle."},
        {"prompt": {"contains": "once more"}, **bash("echo '# two' >> adder.py && git commit -qam Two")},
        {"say": "In the second bottle."},
    ) as model:
        cli.manifest(model.url)
        with terminal(cli, name="first") as first:
            enter_claude(first, f"claude-bottle start {cli.agent} --yes")
            ask(first, "make a mark", "The mark is made.")
            (slug,) = cli.slugs()
            first.tmux("kill-pane")
        eventually(lambda: not cli.processes(f"start {cli.agent}"))
        eventually(lambda: row(cli)["status"] == "idle", lambda: str(row(cli)))
        with terminal(cli, name="second") as second:
            enter_claude(second, f"claude-bottle attach {slug}")
            second.see("The mark is made.")
            ask(second, "and now", "Still in the first bottle.")
            await_written(cli, slug, "Still in the first bottle.")
            cli("stop", slug).ok()
            second.see("status=", f"claude-bottle resume {slug}")
        assert (cli.slugs(), cli.preserved()) == ([], [slug])
        with terminal(cli, name="third") as third:
            enter_claude(third, f"claude-bottle resume {slug} --yes")
            third.see("Still in the first bottle.")
            assert row(cli)["slug"] == slug
            ask(third, "once more", "In the second bottle.")
            leave_claude(third)
            third.see("status=0")
        assert (model.failures, model.finished) == ((), True)
        history = str(model.requests[-1].body)
        assert [words for words in ("make a mark", "and now", "once more") if words not in history] == []
    assert (cli.slugs(), cli.preserved()) == ([], [])
    assert cli.git("log", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}").split() == [
        "Two",
        "One",
        "Start",
    ]
    cli.assert_nothing_is_left()
