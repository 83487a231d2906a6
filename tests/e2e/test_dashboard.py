"""The dashboard as its operator has it: typed into a shell, keys and screens, real agents beside it in a real tmux."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, bash, eventually, scripted, write
from tests.support.e2e_asking import asking, waiting
from tests.support.e2e_terminal import READY, Terminal, ask, terminal

pytestmark = [pytest.mark.needs("envoy", "claude", "tmux"), pytest.mark.usefixtures("with_command")]

HOST = "asked.example.org"
WANTED = asking("egress-block", host=HOST, methods=["GET"], justification="The manual is there.")
NO_ENGINE = "unix:///nonexistent/docker.sock"
DASHBOARD = 'claude-bottle dashboard; echo "status=$?"'


class Dash:
    """One that was opened in a pane."""

    def __init__(self, cli: Cli, pane: Terminal) -> None:
        self._cli, self._pane = cli, pane
        pane.press("C-l")
        pane.tmux("clear-history")
        pane.enter(DASHBOARD)
        self.see("q quit")

    def until(self, holds: Callable[[str], object]) -> None:
        eventually(lambda: bool(holds(self._pane.look)), lambda: self._pane.look)

    def see(self, *words: str) -> None:
        self.until(lambda look: all(word in look for word in words))

    def press(self, *keys: str) -> None:
        self._pane.press(*keys)

    def type(self, text: str) -> None:
        self._pane.type(text)

    @property
    def rows(self) -> list[tuple[str, bool]]:
        """The agents that are shown by their slugs, and whether each is the one beside."""
        found = re.finditer(rf"^([* ]) \[{self._cli.backend}\] +(\S+-[0-9a-z]{{5}}) ", self._pane.look, re.M)
        return [(row[2], row[1] == "*") for row in found]

    def shows(self, *rows: tuple[str, bool]) -> None:
        self.until(lambda _: sorted(self.rows) == sorted(rows))

    def at(self, slug: str) -> None:
        """Its cursor is there, which the status line says."""
        self.until(lambda look: f"\n {slug}  agent " in look)

    def select(self, slug: str) -> None:
        order = [row for row, _ in self.rows]
        self.press("g", *["j"] * order.index(slug))
        self.at(slug)

    def start(self, letters: str, *, picks: bool) -> str:
        """A new agent, through all that is asked; its slug."""
        before = [slug for slug, _ in self.rows]
        self.press("n")
        self.see("Which agent?", f"> {self._cli.agent} ", f"{self._cli.agent}-two ")
        self.type(letters)
        self.see(f"filter: {letters}")
        self.press("Enter")
        if picks:
            self.see("Which backend?", "bubblewrap", "docker")
            self.type(self._cli.backend)
            self.see(f"> {self._cli.backend}")
            self.press("Enter")
        self.see("Start it? [y/N]", "y yes", f"clone of {self._cli.project}")
        assert "Which backend?" not in self._pane.look
        self.press("y")
        self.until(lambda _: len(self.rows) > len(before))
        (slug,) = {slug for slug, _ in self.rows} - {*before}
        self.at(slug)
        self.see("Enter attach")
        return slug

    def stop(self, slug: str) -> None:
        self.at(slug)
        self.press("x")
        self.see(f"Stop {slug}? [y/N]", "y yes")
        self.press("y")
        self.until(lambda _: slug not in [row for row, _ in self.rows])

    def leave(self) -> None:
        self.press("q")
        self.until(lambda look: "status=0" in look)


def own_tmux(shell: Terminal) -> None:
    """Tells the shell where it is, as tmux itself would have."""
    place = shell.tmux("display-message", "-p", "#{socket_path},#{pid},0 #{pane_id}").split()
    shell.say(f"export TMUX={place[0]} TMUX_PANE={place[1]}")


def panes(shell: Terminal) -> list[str]:
    return shell.tmux("list-panes", "-F", "#{pane_id}").split()


def other_pane(shell: Terminal, own: str) -> Terminal:
    eventually(lambda: len(panes(shell)) == 2, lambda: shell.look)
    (found,) = {*panes(shell)} - {own}
    return shell.at(found)


@pytest.mark.needs("bubblewrap")
def test_a_day_at_the_dashboard(cli: Cli, shell: Terminal) -> None:
    picks = cli.backend == "docker"
    with (
        scripted(
            {"prompt": {"contains": "leave a mark"}, **bash("echo '# mine' >> adder.py")},
            {"say": "My mark is left."},
        ) as marking,
        scripted(
            {"prompt": {"contains": "read the manual"}, **WANTED},
            {"expect": [{"contains": [HOST, "1 use"]}], "say": "I may read it."},
        ) as reading,
    ):
        cli.manifest(marking.url)
        second_agent(cli, reading)
        if not picks:
            shell.say(f"export DOCKER_HOST={NO_ENGINE}")
        own_tmux(shell)
        shell.resize(200, 40)
        (own,) = panes(shell)
        left = shell.at(own)
        dash = Dash(cli, left)
        dash.see("nothing runs: n starts an agent", "nothing waits for your answer")

        one = dash.start(cli.agent, picks=picks)
        dash.press("Enter")
        right = other_pane(shell, own)
        right.see(READY)
        ask(right, "leave a mark", "My mark is left.")
        dash.shows((one, True))

        right.press("C-\\")
        eventually(lambda: panes(shell) == [own], lambda: right.screen)
        dash.shows((one, False))
        dash.press("Enter")
        right = other_pane(shell, own)
        right.see(READY, "My mark is left.")
        dash.shows((one, True))
        beside = panes(shell)

        two = dash.start("two", picks=picks)
        dash.shows((one, True), (two, False))
        dash.press("Enter")
        dash.shows((one, False), (two, True))
        eventually(lambda: READY in right.look and "My mark is left." not in right.look, lambda: right.look)
        right.type("read the manual")
        right.see("read the manual")
        right.press("Enter")

        dash.see("proposals (1)", HOST, "1 ask")
        dash.press("Tab")
        dash.see("Enter view")
        dash.press("Enter")
        dash.see("Proposal p-", "The manual is there.", "q back")
        dash.press("q")
        dash.see("Enter view")
        dash.press("a")
        dash.see("Approve a way out", "y allows it")
        dash.press("o")
        dash.see("(•) o once")
        dash.press("y")
        dash.see("nothing waits for your answer")
        right.see("I may read it.")

        dash.press("Tab")
        dash.select(one)
        dash.press("d")
        dash.see(f"What {one} has changed", "+# mine")
        dash.press("q")
        dash.at(one)
        dash.leave()
        assert sorted(cli.slugs()) == sorted([one, two])
        assert panes(shell) == beside

        dash = Dash(cli, left)
        dash.shows((one, False), (two, True))
        dash.select(two)
        dash.stop(two)
        dash.shows((one, True))
        eventually(lambda: "My mark is left." in right.look, lambda: right.look)
        assert panes(shell) == beside
        dash.stop(one)
        dash.see("nothing runs: n starts an agent")
        eventually(lambda: panes(shell) == [own], lambda: shell.look)
        dash.leave()
    assert (marking.failures, marking.finished) == ((), True)
    assert (reading.failures, reading.finished) == ((), True)
    assert cli.slugs() == []
    assert sorted(cli.preserved()) == sorted([one, two])
    assert cli.git("show", f"refs/bottles/{one}/uncommitted:adder.py").endswith("# mine")


def second_agent(cli: Cli, model: ScriptedModel) -> Path:
    routes = f"egress:\n  routes:\n  - host: api.anthropic.com\n    upstream: {model.url}\n"
    write(cli.home / "bottles" / "other.md", f"---\n{routes}---\n")
    return write(cli.home / "agents" / f"{cli.agent}-two.md", "---\nbottle: other\n---\nBe brief.\n")


@pytest.mark.backends("bubblewrap")
def test_outside_tmux_the_terminal_is_handed_over_and_taken_back(cli: Cli, shell: Terminal) -> None:
    with scripted(WANTED, {"say": "Never said."}) as model:
        cli.manifest(model.url)
        cli.more["EDITOR"] = "false"
        shell.say("export EDITOR=false VISUAL=")
        slug = cli.start()
        before = shell.say("stty -g")
        dash = Dash(cli, shell)
        dash.at(slug)
        dash.press("Enter")
        dash.see(READY)
        shell.type("read the manual")
        dash.see("read the manual")
        shell.press("Enter")
        waiting(cli)
        shell.press("C-\\")
        dash.at(slug)
        dash.shows((slug, False))

        dash.see("proposals (1)")
        dash.press("e")
        dash.until(lambda look: look.count("Enter goes back to the dashboard") == 1)
        dash.press("Enter")
        dash.see("q quit", f"{slug}: nothing was changed")
        shell.resize(90, 26)
        dash.press("Tab")
        dash.see("Enter view")
        dash.press("m")
        dash.until(lambda look: look.count("Enter goes back to the dashboard") == 2)
        dash.press("Enter")
        dash.see("q quit", ": nothing was changed")
        ident = waiting(cli)
        dash.leave()
        assert shell.say("stty -g") == before

        dash = Dash(cli, shell)
        dash.shows((slug, False))
        shell.tmux("kill-pane")
        eventually(lambda: not cli.processes("dashboard"), lambda: str(cli.leftovers()))
        assert (cli.slugs(), waiting(cli)) == ([slug], ident)
    assert model.failures == ()


@pytest.mark.backends("bubblewrap")
def test_without_colour_it_can_be_read_on_every_terminal(
    cli: Cli, shell: Terminal, idle: ScriptedModel
) -> None:
    cli.manifest(idle.url)
    slug = cli.start()
    shell.say("""export VISUAL= EDITOR="sh -c 'echo without=\\$NO_COLOR; false'\"""")
    for kind in ("tmux-256color", "screen"):
        shell.say(f"export NO_COLOR=1 TERM={kind}")
        dash = Dash(cli, shell)
        dash.at(slug)
        dash.press("x")
        dash.see("y yes")
        styles = re.findall(r"\x1b\[([0-9;]*)m", shell.tmux("capture-pane", "-p", "-e"))
        assert styles
        assert {*styles} <= {"0", "1", "2", "7", "39", "49"}, kind
        dash.press("n")
        dash.at(slug)
        dash.press("e")
        dash.see("without=1", "Enter goes back")
        dash.press("Enter")
        dash.see("q quit", "nothing was changed")
        dash.leave()


@pytest.mark.backends("bubblewrap")
def test_two_dashboards_agree_and_an_editor_that_does_not_return_holds_only_its_own(
    cli: Cli, shell: Terminal, idle: ScriptedModel
) -> None:
    cli.manifest(idle.url)
    one, two = cli.start(), cli.start()
    shell.say("export VISUAL= EDITOR='sh -c \"echo editing; exec sleep 600\"'")
    with terminal(cli, name="other") as elsewhere:
        held, free = Dash(cli, shell), Dash(cli, elsewhere)
        for dash in (held, free):
            dash.shows((one, False), (two, False))
        held.select(one)
        held.press("e")
        held.see("editing")
        free.select(two)
        free.stop(two)
        free.shows((one, False))
        assert cli.slugs() == [one]
        held.see("editing")
        held.press("C-c")
        held.see("Enter goes back")
        held.press("Enter")
        held.see("nothing was changed")
        held.shows((one, False))
        for dash in (held, free):
            dash.leave()
    cli("stop", one).ok()
