"""The pane beside the dashboard, in a real tmux: made once, used again, never somebody else's."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from claude_bottle.dashboard.beside import Beside, attach_variables
from claude_bottle.errors import BottleError
from claude_bottle.proc import SystemRunner
from claude_bottle.tmux.client import find_tmux
from tests.support.e2e import eventually, python_main
from tests.support.e2e_terminal import Terminal, bare_terminal
from tests.support.fake_runner import fake_runner, says

ONE, TWO = "dev-aaaa1", "dev-bbbb2"
STAYS = ["sh", "-c", 'echo "here is $0"; read line']  # with the slug as its $0


@dataclass
class Desk:
    """A dashboard's place: pane %0 of a tmux of its own."""

    terminal: Terminal
    socket: Path

    def beside(self, *, gives_focus: bool = False) -> Beside:
        """A dashboard that knows nothing of an earlier one."""
        server, terminal = self.ask("#{pid} #{pane_tty}", "%0").split()
        inherited = {"TMUX": f"{self.socket},{server},0", "TMUX_PANE": "%0"}
        tmux = find_tmux(inherited, SystemRunner(), terminal)
        assert tmux is not None
        return Beside(tmux, gives_focus=gives_focus)

    def ask(self, about: str, pane: str) -> str:
        return self.terminal.tmux("display-message", "-p", "-t", pane, about).rstrip("\n")

    def panes(self) -> list[str]:
        """From left to right."""
        listed = self.terminal.tmux("list-panes", "-t", "%0", "-F", "#{pane_left} #{pane_id}").splitlines()
        return [ident for _, ident in sorted((int(row.split()[0]), row.split()[1]) for row in listed)]

    def see(self, pane: str, words: str) -> str:
        eventually(lambda: words in self.screen(pane), lambda: f"{words!r} not in:\n{self.screen(pane)}")
        return self.screen(pane)

    def screen(self, pane: str) -> str:
        return self.terminal.tmux("capture-pane", "-p", "-J", "-t", pane)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    socket = tmp_path / "tmux.sock"
    with bare_terminal(socket, {"PATH": os.environ["PATH"]}, tmp_path) as terminal:
        yield Desk(terminal, socket)


@pytest.mark.needs("tmux")
class TestInARealTmux:
    def test_a_pane_is_made_to_the_right_and_the_dashboard_keeps_the_focus(self, desk: Desk) -> None:
        beside = desk.beside()
        assert beside.shown() is None
        beside.show(ONE, [*STAYS, ONE], {})
        left, right = desk.panes()
        assert left == "%0"
        desk.see(right, f"here is {ONE}")
        assert beside.shown() == ONE
        assert desk.ask("#{pane_active} #{pane_title}", right) == f"0 {ONE}"

    def test_where_it_is_asked_for_the_pane_gets_the_focus(self, desk: Desk) -> None:
        beside = desk.beside(gives_focus=True)
        beside.show(ONE, [*STAYS, ONE], {})
        assert desk.ask("#{pane_active}", "%0") == "0"
        desk.terminal.tmux("select-pane", "-t", "%0")
        beside.show(ONE, ["false"], {})  # it is there: nothing is to be done but to go to it
        assert desk.ask("#{pane_active}", "%0") == "0"
        assert beside.shown() == ONE

    def test_the_second_agent_comes_into_the_same_pane(self, desk: Desk) -> None:
        beside = desk.beside()
        beside.show(ONE, [*STAYS, ONE], {})
        panes = desk.panes()
        first = int(desk.ask("#{pane_pid}", panes[1]))
        beside.show(TWO, [*STAYS, TWO], {})
        assert desk.panes() == panes
        assert ONE not in desk.see(panes[1], f"here is {TWO}")
        assert beside.shown() == TWO
        eventually(lambda: not Path(f"/proc/{first}").exists())

    def test_who_is_there_already_is_left_alone(self, desk: Desk) -> None:
        beside = desk.beside()
        beside.show(ONE, [*STAYS, ONE], {})
        before = desk.ask("#{pane_pid}", desk.panes()[1])
        beside.show(ONE, ["false"], {})
        assert desk.ask("#{pane_pid}", desk.panes()[1]) == before

    def test_one_that_was_closed_by_hand_is_made_anew(self, desk: Desk) -> None:
        beside = desk.beside()
        beside.show(ONE, [*STAYS, ONE], {})
        closed = desk.panes()[1]
        desk.terminal.tmux("kill-pane", "-t", closed)
        assert beside.shown() is None
        beside.show(ONE, [*STAYS, ONE], {})
        assert beside.shown() == ONE
        assert closed not in desk.panes()
        assert len(desk.panes()) == 2

    def test_it_closes_when_the_program_ends_well(self, desk: Desk) -> None:
        beside = desk.beside()
        for _ in range(20):  # tmux does not hear of each that takes its time to end, as Python does
            beside.show(ONE, [sys.executable, "-S", "-c", "pass"], {})
            eventually(lambda: beside.shown() is None and desk.panes() == ["%0"])

    def test_the_words_of_a_failure_stay_until_the_next_one_comes(self, desk: Desk) -> None:
        beside = desk.beside()
        beside.show(ONE, ["sh", "-c", "echo it does not run; exit 3"], {})
        eventually(lambda: beside.shown() is None)
        right = desk.panes()[1]
        desk.see(right, "it does not run")
        eventually(lambda: beside.shown() is None and "status 3" in desk.screen(right))
        beside.show(TWO, [*STAYS, TWO], {})
        assert desk.panes() == ["%0", right]
        assert "it does not run" not in desk.see(right, f"here is {TWO}")
        assert beside.shown() == TWO

    def test_what_cannot_be_started_says_so_in_the_pane(self, desk: Desk) -> None:
        beside = desk.beside()
        beside.show(ONE, ["/no/such/program"], {})
        eventually(lambda: len(desk.panes()) == 2 and beside.shown() is None)
        desk.see(desk.panes()[1], "/no/such/program")

    def test_attach_looks_where_the_operator_does_and_why_it_fails_can_be_read(
        self, desk: Desk, tmp_path: Path
    ) -> None:
        desk.terminal.tmux("set-environment", "-g", "CLAUDE_BOTTLE_HOME", "the/servers/own")
        operators = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        beside = desk.beside()
        for slug, more in ((ONE, {}), (TWO, {"CLAUDE_BOTTLE_HOME": str(tmp_path / "bottles")})):
            beside.show(slug, [*python_main(), "attach", slug], attach_variables({**operators, **more}))
            eventually(lambda: len(desk.panes()) == 2 and beside.shown() is None)
            desk.see(desk.panes()[1], f"there is no bottle '{slug}'")

    def test_a_dashboard_that_comes_back_finds_the_pane(self, desk: Desk) -> None:
        desk.beside().show(ONE, [*STAYS, ONE], {})
        panes = desk.panes()
        back = desk.beside()
        assert back.shown() == ONE
        back.show(TWO, [*STAYS, TWO], {})
        assert desk.panes() == panes
        back.close()
        assert desk.panes() == ["%0"]

    def test_a_pane_that_is_not_ours_is_never_touched(self, desk: Desk) -> None:
        theirs = desk.terminal.tmux(
            "split-window", "-h", "-d", "-P", "-F", "#{pane_id}", "-t", "%0", *STAYS
        ).strip()
        pid = desk.ask("#{pane_pid}", theirs)
        beside = desk.beside()
        beside.close()
        assert beside.shown() is None
        beside.show(ONE, [*STAYS, ONE], {})
        assert len(desk.panes()) == 3
        beside.close()
        assert set(desk.panes()) == {"%0", theirs}
        assert desk.ask("#{pane_pid}", theirs) == pid

    def test_a_pane_whose_program_was_replaced_by_its_user_is_theirs(self, desk: Desk) -> None:
        beside = desk.beside()
        beside.show(ONE, [*STAYS, ONE], {})
        taken = desk.panes()[1]
        desk.terminal.tmux("respawn-pane", "-k", "-t", taken, *STAYS, "mine")
        desk.see(taken, "here is mine")
        assert beside.shown() is None
        beside.close()
        beside.show(TWO, [*STAYS, TWO], {})
        assert len(desk.panes()) == 3
        assert "here is mine" in desk.screen(taken)

    def test_a_pane_that_was_moved_to_another_window_stays_there(self, desk: Desk) -> None:
        beside = desk.beside()
        beside.show(ONE, [*STAYS, ONE], {})
        moved = desk.panes()[1]
        desk.terminal.tmux("break-pane", "-d", "-s", moved)
        assert beside.shown() is None
        beside.close()
        assert desk.ask("#{pane_id}", moved) == moved

    def test_the_dashboards_own_pane_is_not_the_one_beside_it(self, desk: Desk) -> None:
        pid = desk.ask("#{pane_pid}", "%0")
        desk.terminal.tmux("set-option", "-p", "-t", "%0", "@claude_bottle", f"{ONE} {pid}")
        beside = desk.beside()
        assert beside.shown() is None
        beside.close()
        assert desk.panes() == ["%0"]

    @pytest.mark.parametrize("again", [False, True])
    def test_a_zoomed_dashboard_makes_room(self, desk: Desk, again: bool) -> None:
        beside = desk.beside()
        beside.show(ONE, [*STAYS, ONE], {})
        desk.terminal.tmux("resize-pane", "-Z", "-t", "%0")
        slug = ONE if again else TWO
        beside.show(slug, [*STAYS, slug], {})
        assert desk.ask("#{window_zoomed_flag} #{pane_active}", "%0") == "0 1"

    def test_every_word_and_variable_arrives_as_it_is(self, desk: Desk) -> None:
        words = [
            "a b",
            "'",
            '"',
            "end;",
            ";",
            "\\;",
            "#{pane_id}",
            "#(touch /tmp/x)",
            "$HOME",
            "é→",
            "%1",
            "",
            "-t",
            "\\",
        ]
        variables = {"ONE": "a b;", "TWO": "#{pane_id}", "EMPTY": "", "PATH": os.environ["PATH"]}
        desk.terminal.tmux("set-environment", "-g", "GONE", "the server has it")
        script = (
            "import os, sys; print(ascii((sys.argv[1:], [os.environ.get(n) for n in ('ONE', 'TWO', 'EMPTY', 'GONE')],"
            " os.getcwd())), flush=True); sys.stdin.readline()"
        )
        argv = [sys.executable, "-c", script, *words]
        desk.beside().show(ONE, argv, {**variables, "GONE": None})
        right = desk.panes()[1]
        said = desk.see(right, "'/')")
        assert ascii((words, ["a b;", "#{pane_id}", "", None], "/")) in said.replace("\n", "")

    def test_a_slug_that_is_none_reaches_no_format(self, desk: Desk, tmp_path: Path) -> None:
        with pytest.raises(BottleError, match="not the name of an agent"):
            desk.beside().show(f"#(touch {tmp_path}/x)", ["true"], {})
        assert desk.panes() == ["%0"]

    def test_a_window_that_is_too_narrow_is_one_error(self, desk: Desk) -> None:
        desk.terminal.tmux("resize-window", "-t", "%0", "-x", "2", "-y", "5")
        with pytest.raises(BottleError, match="no space for new pane"):
            desk.beside().show(ONE, [*STAYS, ONE], {})

    def test_a_server_that_is_gone_is_one_error_and_shows_nobody(self, desk: Desk) -> None:
        beside = desk.beside()
        beside.show(ONE, [*STAYS, ONE], {})
        desk.terminal.tmux("kill-server")
        eventually(lambda: beside.shown() is None)
        for act in (lambda: beside.show(TWO, [*STAYS, TWO], {}), beside.close):
            with pytest.raises(BottleError, match="tmux") as caught:
                act()
            assert "\n" not in caught.value.message

    def test_another_server_in_the_place_of_ours_is_not_touched(self, desk: Desk, tmp_path: Path) -> None:
        beside = desk.beside()
        desk.terminal.tmux("kill-server")
        eventually(lambda: beside.shown() is None)
        with bare_terminal(desk.socket, {"PATH": os.environ["PATH"]}, tmp_path):
            with pytest.raises(BottleError, match="another one is in its place"):
                beside.show(ONE, [*STAYS, ONE], {})
            assert desk.panes() == ["%0"]

    def test_a_terminal_that_only_inherited_the_pane_is_not_there(self, desk: Desk) -> None:
        server = desk.ask("#{pid}", "%0")
        inherited = {"TMUX": f"{desk.socket},{server},0", "TMUX_PANE": "%0"}
        tmux = find_tmux(inherited, SystemRunner(), "/dev/pts/999")
        assert tmux is not None
        with pytest.raises(BottleError, match="not the tmux pane"):
            Beside(tmux, gives_focus=False).show(ONE, [*STAYS, ONE], {})
        assert desk.panes() == ["%0"]

    def test_two_dashboards_in_one_window_agree(self, desk: Desk) -> None:
        first, second = desk.beside(), desk.beside()
        first.show(ONE, [*STAYS, ONE], {})
        second.show(TWO, [*STAYS, TWO], {})
        assert first.shown() == second.shown() == TWO
        first.close()
        assert second.shown() is None


def test_a_pane_that_cannot_be_filled_is_closed_again() -> None:
    with fake_runner(
        (("tmux", "-S", "/s", "list-panes", ...), says("7 3.3a 0 %0 0 100 /dev/pts/2 \n")),
        (("tmux", "-S", "/s", "split-window", ...), says("%9\n")),
        (("tmux", "-S", "/s", "set-option", ...), says("", 1, "lost server")),
        (("tmux", "-S", "/s", "kill-pane", "-t", "%9"), says("", 1, "no server running on /s")),
    ) as runner:
        tmux = find_tmux({"TMUX": "/s,7,0", "TMUX_PANE": "%0"}, runner)
        assert tmux is not None
        with pytest.raises(BottleError, match="lost server"):
            Beside(tmux, gives_focus=True).show(ONE, ["true"], {})


def test_attach_sees_the_operators_world_and_nothing_secret_of_it() -> None:
    operators = {
        "CLAUDE_BOTTLE_HOME": "/home/me/bottles",
        "DOCKER_HOST": "ssh://engine",
        "PATH": "/bin",
        "HOME": "/home/me",
        "LANG": "C.UTF-8",
        "DISPLAY": ":0",
        "ANTHROPIC_API_KEY": "sk-ant-secret",
        "GITHUB_TOKEN": "secret",
        "TERM": "xterm-kitty",
        "TMUX": "/s,7,0",
        "PYTHONPATH": "/somewhere",
    }
    variables = attach_variables(operators)
    there = {name: value for name, value in variables.items() if value is not None}
    assert there == {name: operators[name] for name in list(operators)[:6]}
    assert variables["DOCKER_CONTEXT"] is None
    assert variables["NO_COLOR"] is None
    assert "secret" not in shlex.join(there.values())
