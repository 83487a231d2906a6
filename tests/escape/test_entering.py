"""The moment in which a program of the operator's enters: it is watched from inside, and shows nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from claude_bottle.operations.launch import Launched
from tests.support.bottles import only_with, shell_inside

MARKER = "of-the-host-6f1e"
# Looks at every process again and again, as fast as it can, until it is told to stop.
WATCH = """
import json, os, sys
own = os.getpid()
found, strangers, looks = {}, set(), 0
markers = [marker.encode() for marker in sys.argv[1:]]
print("watching", flush=True)
while not os.path.exists("/tmp/enough"):
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) in (1, own):
            continue
        looks += 1
        for name in ("environ", "cmdline", "maps", "auxv", "stat", "comm"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    content = file.read(1 << 20)
            except OSError:
                continue
            if any(marker in content for marker in markers):
                found.setdefault(name, content[:300].decode(errors="replace"))
        for name in ("fd", "cwd", "root", "exe", "mem", "ns/user"):
            path = f"/proc/{pid}/{name}"
            try:
                if name == "fd":
                    links = [os.readlink(f"{path}/{item}") for item in os.listdir(path)]
                elif name == "mem":
                    os.close(os.open(path, os.O_RDWR))
                    links = []
                else:
                    links = [os.readlink(path)]
            except OSError:
                continue
            strangers.update(link for link in links if link.startswith("/"))
            if any(sys.argv[1] in link for link in links):
                found.setdefault(name, str(links))
os.unlink("/tmp/enough")
print(json.dumps({"found": found, "strangers": sorted(strangers), "looks": looks}))
"""
PLACES = (
    *("/home/node", "/usr/", "/dev/", "/tmp", "/proc/", "/opt/claude-bottle", "/run/claude-bottle"),
    "/etc/ld.so.cache",  # the bottle's own, which the program's loader reads
)


def test_nothing_of_the_host_shows_while_a_program_enters(cell: Launched) -> None:
    """The entering processes have the marker in their environment, and in an open file's name."""
    of_the_host = {"bubblewrap": ["claude_bottle.backend"]}  # elsewhere what enters is a program of the image
    markers = [MARKER, *of_the_host.get(cell.metadata.backend, [])]
    watcher = cell.bottle.command(["/usr/bin/python3", "-c", WATCH, *markers], tty=False)
    with subprocess.Popen(watcher, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"watching\n"
        environment = {"PATH": os.environ["PATH"], "SECRET_OF_THE_HOST": MARKER, "TERM": "xterm"}
        marked = os.memfd_create(MARKER)
        for _ in range(15):
            argv = cell.bottle.command(["true"], tty=False)
            done = subprocess.run(argv, env=environment, stdin=marked, pass_fds=[marked], check=False)
            assert done.returncode == 0
        os.close(marked)
        shell_inside(cell.bottle, "touch /tmp/enough")
        seen = json.loads(process.stdout.read())
    assert seen["looks"] > 30
    assert seen["found"] == {}
    assert [path for path in seen["strangers"] if path != "/" and not path.startswith(PLACES)] == []


CATCH = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
own, caught, tries = os.getpid(), [], 0
print("watching", flush=True)
while not os.path.exists("/tmp/enough"):
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) in (1, own):
            continue
        try:
            with open(f"/proc/{pid}/comm") as file:
                name = file.read().strip()
        except OSError:
            continue
        if not name.startswith("python"):
            continue
        tries += 1
        if libc.ptrace(16, int(pid), None, None) == 0:
            try:  # it may have become the program meanwhile, or have ended
                os.waitpid(int(pid), 0x40000000)
                program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
                if program.startswith("python"):
                    caught.append(program)
                libc.ptrace(17, int(pid), None, None)
                os.kill(int(pid), 18)
            except OSError:
                pass
os.unlink("/tmp/enough")
print(json.dumps({"caught": caught, "tries": tries}))
"""


def test_what_enters_cannot_be_caught_before_it_is_the_program(cell: Launched) -> None:
    """Whoever traces it then has an interpreter of the host, with the host's descriptors, in hand."""
    only_with("bubblewrap", cell, "elsewhere it is a program of the image, with the image's own interpreter")
    watcher = cell.bottle.command(["/usr/bin/python3", "-c", CATCH], tty=False)
    with subprocess.Popen(watcher, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"watching\n"
        statuses = {cell.bottle.exec(["true"]).status for _ in range(15)}
        shell_inside(cell.bottle, "touch /tmp/enough")
        seen = json.loads(process.stdout.read())
    assert seen["caught"] == []
    assert statuses == {0}


def test_a_caller_leaves_no_descriptor_behind(cell: Launched, tmp_path: Path) -> None:
    """Whatever the caller has open, and is careless enough to pass on."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        argv = cell.bottle.command(["sh", "-c", "ls -l /proc/self/fd; cat /proc/self/fd/[3-9]*"], tty=False)
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=[file.fileno()],
            check=False,
        )
    assert "secret" not in done.stdout
    assert "of the host" not in done.stdout


def test_the_environment_of_the_bottle_cannot_be_swollen_from_inside(cell: Launched) -> None:
    """Programs that enter take over the anchor's environment, which is memory that an agent may write."""
    grow = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.prctl(35, 8, 0, 0, 0))
"""
    assert cell.bottle.exec(["/usr/bin/python3", "-c", grow]).text.strip() == "-1"
    assert cell.bottle.exec(["true"]).status == 0
