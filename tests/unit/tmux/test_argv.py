"""What is said to tmux, word for word, and how its answers are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.errors import BottleError
from claude_bottle.tmux import argv
from claude_bottle.tmux.argv import Pane, Place, Window

HERE = Place("/tmp/tmux-1000/default", 4093, "%0")


@pytest.mark.parametrize(
    ("tmux", "pane", "place"),
    [
        pytest.param("/tmp/tmux-1000/default,4093,0", "%0", HERE, id="inside"),
        pytest.param("/a,b/s,1,2", "%12", Place("/a,b/s", 1, "%12"), id="a-comma-in-the-path"),
        pytest.param("", "%0", None, id="outside"),
        pytest.param("/tmp/s,1,0", "", None, id="no-pane"),
        pytest.param("/tmp/s,1,0", "0", None, id="a-pane-that-is-none"),
        pytest.param("/tmp/s,1,0", "%0\n", None, id="a-line-too-much"),
        pytest.param("/tmp/s,x,0", "%0", None, id="no-process"),
        pytest.param("1", "%0", None, id="a-flag"),
        pytest.param(",1,0", "%0", None, id="no-socket"),
    ],
)
def test_where_we_are(tmux: str, pane: str, place: Place | None) -> None:
    assert argv.place_from({"TMUX": tmux, "TMUX_PANE": pane}) == place


def test_outside_tmux_there_is_no_place() -> None:
    assert argv.place_from({}) is None


def test_the_place_keeps_the_terminals_name() -> None:
    place = argv.place_from({"TMUX": "/tmp/tmux-1000/default,4093,0", "TMUX_PANE": "%0"}, "/dev/pts/7")
    assert place == HERE._replace(terminal="/dev/pts/7")


def test_looking_and_splitting() -> None:
    assert argv.tmux(HERE, argv.list_panes("%0")) == (
        *("tmux", "-S", "/tmp/tmux-1000/default", "list-panes", "-t", "%0", "-F"),
        "#{pid} #{version} #{window_zoomed_flag} #{pane_id} #{pane_dead}#{pane_dead_status}#{pane_dead_signal} "
        "#{pane_pid} #{pane_tty} #{@claude_bottle}",
    )
    assert argv.tmux(HERE, argv.split("%0"))[3:] == (
        *("split-window", "-h", "-d", "-P", "-F", "#{pane_id}", "-t", "%0", ""),
    )


def test_a_pane_is_told_what_to_do_at_its_end_before_it_has_a_program() -> None:
    commands = argv.fill(
        "%5",
        "dev-abc12",
        ["/bin/claude-bottle", "attach", "dev-abc12"],
        {"HOME": "/home/me;", "NO_COLOR": None},
    )
    assert argv.tmux(HERE, *commands, argv.select("%5"))[3:] == (
        *("set-option", "-p", "-t", "%5", "remain-on-exit", "failed", ";"),
        *("respawn-pane", "-k", "-c", "/", "-e", "HOME=/home/me\\;", "-t", "%5", "--"),
        *(
            "sh",
            "-c",
            'echo; exec env "$@"',
            "env",
            "-u",
            "NO_COLOR",
            "/bin/claude-bottle",
            "attach",
            "dev-abc12",
            ";",
        ),
        *("set-option", "-p", "-F", "-t", "%5", "@claude_bottle", "dev-abc12 #{pane_pid}", ";"),
        *("select-pane", "-T", "dev-abc12", "-t", "%5", ";"),
        *("select-pane", "-t", "%5"),
    )


def test_no_text_of_a_title_or_a_mark_is_a_format_or_a_control_character() -> None:
    *_, mark, title = argv.fill("%5", "#(touch x)\x1b[2J#{pid}", ["true"], {})
    assert mark[-1] == "##(touch x)\x1b[2J##{pid} #{pane_pid}"
    assert title[2] == "##(touch x)\\x1b[2J##{pid}"


@pytest.mark.parametrize(
    ("word", "escaped"),
    [
        ("a;", "a\\;"),
        (";", "\\;"),
        ("a\\;", "a\\\\;"),
        ("a;b", "a;b"),
        ("", ""),
        ("\\", "\\"),
        (";;", ";\\;"),
    ],
)
def test_a_semicolon_at_the_end_of_a_word_ends_no_command(word: str, escaped: str) -> None:
    assert argv.tmux(HERE, [word])[3:] == (escaped,)


@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1), min_size=1))
def test_every_word_comes_out_of_tmuxs_reading_as_it_was(commands: list[list[str]]) -> None:
    assert read_as_tmux_does(argv.tmux(HERE, *commands)[3:]) == commands


def read_as_tmux_does(words: tuple[str, ...]) -> list[list[str]]:
    """cmd_parse_from_arguments in tmux's cmd-parse.y."""
    commands: list[list[str]] = [[]]
    for word in words:
        if not word.endswith(";"):
            commands[-1].append(word)
        elif word.endswith("\\;"):
            commands[-1].append(word[:-2] + ";")
        else:
            commands[-1] += [word[:-1]] if word[:-1] else []
            commands.append([])
    return commands


ANSWER = """\
4093 3.3a 0 %0 0 100 /dev/pts/2 
4093 3.3a 0 %1 0 200 /dev/pts/3 dev-abc12 200
4093 3.3a 0 %2 1 300  dev-abc13 300
4093 3.3a 0 %3 0 400 /dev/pts/5 dev-abc12 200
4093 3.3a 0 %4 1 0  
4093 3.3a 0 %5 11 500  dev-abc14 500
"""  # noqa: W291 - a last field that is empty


def test_what_a_window_is_said_to_hold() -> None:
    assert argv.parse_window(ANSWER) == Window(
        4093,
        "3.3a",
        False,
        (
            Pane("%0", "/dev/pts/2"),
            Pane("%1", "/dev/pts/3", False, "dev-abc12"),
            Pane("%2", "", True, "dev-abc13", True),
            Pane("%3", "/dev/pts/5"),  # marked, but given another program since
            Pane("%4", "", True, "", True),
            Pane("%5", "", True, "dev-abc14"),  # with status 1
        ),
    )
    assert argv.parse_window(ANSWER.replace("3.3a 0", "3.3a 1")).is_zoomed


@pytest.mark.parametrize(
    "answer",
    [
        *("", "\n", "4093", "x 3.3a 0 %0 0 100 /dev/pts/2 ", "4093 3.3a 0 0 0 100 /dev/pts/2 "),
        *("4093 3.3a 0 %0 0 -1 /dev/pts/2 ", "4093 3.3a 0 %0 0 100 /dev/pts/2 \nmore"),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error(answer: str) -> None:
    with pytest.raises(BottleError, match="cannot be read"):
        argv.parse_window(answer)


def test_the_name_of_a_new_pane() -> None:
    assert argv.parse_pane("%17\n") == "%17"
    with pytest.raises(BottleError, match="cannot be read"):
        argv.parse_pane("no pane")


@pytest.mark.parametrize(
    ("version", "old"),
    [
        *(("3.2", False), ("3.2a", False), ("3.10", False), ("4.0", False), ("next-3.5", False)),
        *(("openbsd-7.4", False), ("master", False), ("", False)),
        *(("3.1c", True), ("3.0a", True), ("2.9", True), ("1.8", True)),
    ],
)
def test_which_versions_are_too_old(version: str, old: bool) -> None:
    assert argv.is_too_old(version) is old
