"""What a program in a bottle writes to claude's terminal reaches the operator's as a picture and no more.

The program is real, in a real bottle, and writes past Claude Code straight to the terminal; the operator sits
in a real tmux, which obeys such orders where nothing stands between: the first test shows that.
"""

from __future__ import annotations

import shlex
import threading

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli
from tests.support.e2e_terminal import Terminal, command_line, enter_claude, terminal

pytestmark = pytest.mark.needs("envoy", "claude", "tmux")

CLIPBOARD, TITLE = r"\033]52;c;c3RvbGVu\007", r"\033]2;stolen\007"
QUERIES = (
    r"\033[6n\033[c\033[>c\033[5n\033[>q\033[14t\033[18t\033[21t\033]10;?\007\033]11;?\033\\"
    r"\033P$qm\033\\\033P+q544e\033\\\005\033[?1$p"
)
HIDDEN = r"\033]8;;https://evil.example\007link\033]8;;\007\033_Gf=100;AAAA\033\\\033[?9h\033[?1003;9h\033[1;2;3;4;5T"
ORDERS = CLIPBOARD + TITLE + QUERIES + HIDDEN

# As the user that claude is. Claude sleeps meanwhile, so what is typed is read by this program alone.
ATTACK = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
PIDFD_OPEN, PIDFD_GETFD = 434, 438
def is_claude(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe").endswith("/claude")
    except OSError:
        return False
claude = next(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_claude(pid))
terminal = libc.syscall(PIDFD_GETFD, libc.syscall(PIDFD_OPEN, claude, 0), 0, 0)
if terminal < 0:
    sys.exit(os.strerror(ctypes.get_errno()))
os.kill(claude, signal.SIGSTOP)
os.write(terminal, sys.argv[1].encode().decode("unicode_escape").encode())
os.write(terminal, b"\\033[H\\033[2Jseen-by-operator")
heard = b""
while len(heard) < 4:
    heard += os.read(terminal, 4 - len(heard))
print(heard)
os.kill(claude, signal.SIGCONT)
"""


def test_without_a_bottle_between_the_terminal_obeys(cli: Cli) -> None:
    """Else the other test could not fail."""
    cli.repository()
    with terminal(cli) as shell:
        listen(shell)
        shell.say(f"printf '%b' {shlex.quote(CLIPBOARD + TITLE)}")
        assert clipboard(shell) == ["stolen"]
        assert title(shell) == "stolen"
        answered = shell.say(r"IFS= read -rs -d R -p $'\e[6n' answer; printf %q \"$answer\"")
        assert "E[" in answered


def test_orders_to_the_terminal_do_not_leave_the_bottle(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    with terminal(cli) as shell:
        listen(shell)
        before = title(shell)
        enter_claude(shell, f"{command_line(cli, 'start', cli.agent)} --yes")
        (slug,) = cli.slugs()
        heard: list[str] = []

        def attack() -> None:
            done = cli("exec", slug, "--", "python3", "-c", ATTACK, ORDERS)
            heard.append(done.text + done.talk)

        attacking = threading.Thread(target=attack)
        attacking.start()
        shell.see("seen-by-operator")
        shell.type("keys")
        attacking.join()
        assert heard == ["b'keys'\n"]  # what the operator typed, and no answer of the terminal's
        assert clipboard(shell) == []
        assert title(shell) == before
        shell.press("C-\\")
        shell.see("status=0")
        cli("stop", slug).ok()


def listen(shell: Terminal) -> None:
    shell.tmux("set-option", "-s", "set-clipboard", "on")


def clipboard(shell: Terminal) -> list[str]:
    return shell.tmux("list-buffers", "-F", "#{buffer_sample}").split()


def title(shell: Terminal) -> str:
    return shell.tmux("display-message", "-p", "#{pane_title}").strip()
