"""The client's refusals, without a server: what it runs, and what it makes of the answers."""

from __future__ import annotations

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.proc import Command, ProgramMissing, Result, TimeOver
from claude_bottle.tmux import argv
from claude_bottle.tmux.argv import Pane, Place
from claude_bottle.tmux.client import Tmux, find_tmux
from tests.support.fake_runner import fake_runner, says

HERE = Place("/tmp/s", 4093, "%0", "/dev/pts/2")
LOOK = argv.tmux(HERE, argv.list_panes("%0"))
ROW = "4093 3.3a 0 %0 0 100 /dev/pts/2 \n"


def test_outside_tmux_nothing_is_run() -> None:
    with fake_runner() as runner:
        assert find_tmux({}, runner) is None


def test_inside_the_window_is_that_of_our_own_pane() -> None:
    with fake_runner((LOOK, says(ROW))) as runner:
        tmux = find_tmux({"TMUX": "/tmp/s,4093,7", "TMUX_PANE": "%0"}, runner, "/dev/pts/2")
        assert tmux is not None
        assert tmux.look().panes == (Pane("%0", "/dev/pts/2"),)
    assert 0 < runner.commands[0].timeout <= 5


def test_nothing_of_the_environment_leads_to_another_server() -> None:
    with fake_runner((LOOK, says(ROW))) as runner:
        Tmux(runner, HERE).look()
    (command,) = runner.commands
    assert (command.keep, command.environment) == ((), ())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(says(ROW.replace("4093", "4094")), "another one is in its place", id="another-server"),
        pytest.param(says(ROW.replace("3.3a", "3.1c")), "tmux 3.1c is too old", id="too-old"),
        pytest.param(says(ROW.replace("pts/2", "pts/9")), "not the tmux pane", id="another-terminal"),
        pytest.param(says(ROW.replace("%0", "%1")), "not the tmux pane", id="another-pane"),
        pytest.param(says("", 1, "no server running on /tmp/s"), "no server running", id="server-gone"),
        pytest.param(says("", 1, "can't find pane: %0"), "can't find pane: %0", id="pane-gone"),
        pytest.param(says(""), "cannot be read", id="no-answer"),
    ],
)
def test_a_place_that_is_not_ours_is_refused(answer: Result, words: str) -> None:
    with fake_runner((LOOK, answer)) as runner, pytest.raises(BottleError, match=words) as caught:
        Tmux(runner, HERE).look()
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("error", [ProgramMissing("tmux was not found"), TimeOver("tmux did not end")])
def test_a_tmux_that_is_missing_or_hangs_is_one_error(error: BottleError) -> None:
    def fail(command: Command) -> Result:
        raise error

    with fake_runner((LOOK, fail)) as runner, pytest.raises(BottleError, match=r"^tmux "):
        Tmux(runner, HERE).look()


def test_a_terminal_whose_name_is_not_known_is_not_compared() -> None:
    with fake_runner((LOOK, says(ROW))) as runner:
        assert Tmux(runner, HERE._replace(terminal=None)).look().server == 4093


def test_a_split_that_is_refused_says_why() -> None:
    split = argv.tmux(HERE, argv.split("%0"))
    with fake_runner((split, says("", 1, "no space for new pane"))) as runner:
        with pytest.raises(BottleError, match=r"^tmux has refused: no space for new pane$"):
            Tmux(runner, HERE).split()
