"""The real key is looked for everywhere inside, in every form that it may have; only its placeholder is there."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from claude_bottle.operations.launch import Launched
from tests.support.bottles import KEY, MARKER, shell_inside

_MASK = 0x55
# The searched words come masked, so that the search does not find itself.
SEARCH = """
import json, os, stat, sys
table = bytes(byte ^ 0x55 for byte in range(256))
words = [bytes.fromhex(word) for word in json.load(sys.stdin)]
found, looked, read = [], 0, 0
def search(name, chunk):
    masked = chunk.translate(table)
    found.extend([name, number] for number, word in enumerate(words) if word in masked)
def search_file(path, limit=64 << 20):
    global looked, read
    try:
        with open(path, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return
            looked += 1
            tail = b""
            while limit > 0 and (chunk := file.read(1 << 20)):
                search(path, tail + chunk)
                tail = chunk[-256:]
                limit -= len(chunk)
                read += len(chunk)
    except OSError:
        pass
skipped = ("/usr", "/proc", "/sys", "/dev", "/opt/claude-bottle/bin")
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in skipped]
    for name in files:
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            search_file(path)
        search(path, os.fsencode(path))
for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
    for name in ("environ", "cmdline", "maps", "comm", "status", "mountinfo", "limits", "cgroup"):
        search_file(f"/proc/{pid}/{name}")
    try:
        regions = open(f"/proc/{pid}/maps").read().splitlines()
        memory = open(f"/proc/{pid}/mem", "rb", buffering=0)
    except OSError:
        continue
    for region in regions:
        first, last = (int(item, 16) for item in region.split()[0].split("-"))
        if "r" in region.split()[1] and last - first < 64 << 20:
            try:
                memory.seek(first)
                chunk = memory.read(last - first)
            except (OSError, OverflowError, ValueError):
                continue
            looked += 1
            read += len(chunk)
            search(f"memory of {pid}", chunk)
for name in ("self/mountinfo", "mounts", "net/unix", "cmdline", "version"):
    search_file("/proc/" + name)
print(json.dumps({"found": found, "looked": looked, "read": read}))
"""


def forms_of(secret: str) -> list[bytes]:
    """The secret as it is, and as something that copies it may write it."""
    raw = secret.encode()
    forms = [raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode(), quote(secret, safe="").encode()]
    forms += [raw.decode().encode("utf-16-le"), raw.decode().swapcase().encode(), raw[8:]]
    for shift in range(3):  # base64 of a text that holds it, wherever it begins there
        forms.append(base64.b64encode(b"\0" * shift + raw)[4 if shift else 0 : -4])
    return list(dict.fromkeys(forms))


def search(launched: Launched, secret: str) -> dict[str, Any]:
    masked = [bytes(byte ^ _MASK for byte in form).hex() for form in forms_of(secret)]
    argv = ["/usr/bin/python3", "-c", SEARCH]
    done = launched.bottle.exec(argv, stdin=json.dumps(masked).encode(), timeout=100)
    assert done.status == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("secret", [KEY, MARKER], ids=["key", "operators-environment"])
def test_a_secret_of_the_host_is_nowhere_inside(cell: Launched, secret: str) -> None:
    result = search(cell, secret)
    assert result["found"] == []
    assert result["looked"] > 50
    assert result["read"] > 1 << 20


PLANTED = "sk-ant-PLANTED-1f2e3d4c5b6a"


def test_the_search_finds_what_is_there(cell: Launched) -> None:
    """In a file as base64, in a name, in an environment, in an argument and in memory."""
    encoded = base64.b64encode(b"x=" + PLANTED.encode()).decode()
    plant = f"""
        mkdir -p ~/deep/er && echo {encoded} > ~/deep/er/file && touch /tmp/{PLANTED}
        PLANTED={PLANTED} setsid sleep 60 </dev/null >/dev/null 2>&1 &
        setsid python3 -c 'import time; x = b"{PLANTED[:10]}" + b"{PLANTED[10:]}"; time.sleep(60)' </dev/null >/dev/null 2>&1 &
        setsid sh -c 'sleep 60; : {PLANTED}' </dev/null >/dev/null 2>&1 &
        sleep 0.3
    """
    assert shell_inside(cell.bottle, plant).status == 0
    places = {place for place, _ in search(cell, PLANTED)["found"]}
    assert {"/home/node/deep/er/file", f"/tmp/{PLANTED}"} <= places
    for kind in ("/environ", "/cmdline"):
        assert any(place.endswith(kind) for place in places), kind
    assert any(place.startswith("memory of") for place in places)
    shell_inside(cell.bottle, f"rm -rf ~/deep /tmp/{PLANTED}; pkill -f {PLANTED}; pkill sleep; true")


def test_the_placeholder_stands_where_the_key_would(cell: Launched) -> None:
    assert cell.bottle.exec(["printenv", "ANTHROPIC_API_KEY"]).text == "placeholder\n"
