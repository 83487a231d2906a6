"""Images: their names follow from all that goes into them; what the engine has of them is asked strictly."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from claude_bottle.backend.docker import images
from claude_bottle.backend.docker.api import EngineError
from claude_bottle.backend.docker.images import Recipe, check_machine, digest_files, missing
from claude_bottle.backend.seccomp import compile_filter
from claude_bottle.errors import BottleError, NotFoundError
from tests.support.fake_engine import Answer, Expected, fake_engine, refuses
from tests.support.processes import eventually

PROGRAM = Path("/srv/program")
RECIPE = Recipe("agent", "FROM x\n", (("UID", "1000"),), (("a", b"1", 0o644), ("b", PROGRAM, 0o755)))
DIGESTS = {PROGRAM: sha256(b"2").hexdigest()}


def agent_with(claude: Path) -> Recipe:
    return images.agent_recipe("debian", claude, (), 1000, "x86_64")


def bundle_with(envoy: Path) -> Recipe:
    return images.bundle_recipe("debian", envoy, "x86_64")


def test_a_tag_is_the_same_for_the_same() -> None:
    tag = RECIPE.tag(DIGESTS)
    assert re.fullmatch("claude-bottle/agent:[0-9a-f]{16}", tag)
    assert RECIPE._replace().tag(dict(DIGESTS)) == tag
    as_file = RECIPE._replace(files=(("a", PROGRAM, 0o644), *RECIPE.files[1:]))
    as_bytes = RECIPE._replace(files=(("a", b"2", 0o644), *RECIPE.files[1:]))
    assert as_file.tag(DIGESTS) == as_bytes.tag(DIGESTS) != tag


def test_all_that_goes_into_an_image_changes_its_tag() -> None:
    changed = [
        RECIPE._replace(name="bundle"),
        RECIPE._replace(dockerfile="FROM x\n\n"),
        RECIPE._replace(arguments=(("UID", "1001"),)),
        RECIPE._replace(arguments=(("GID", "1000"),)),
        RECIPE._replace(arguments=(("UID", "1000"), ("BASE", "x"))),
        RECIPE._replace(files=(("a", b"0", 0o644), *RECIPE.files[1:])),
        RECIPE._replace(files=(("a", b"1", 0o755), *RECIPE.files[1:])),
        RECIPE._replace(files=(("A", b"1", 0o644), *RECIPE.files[1:])),
        RECIPE._replace(files=(*RECIPE.files, ("c", b"", 0o644))),
        RECIPE._replace(files=RECIPE.files[:1]),
    ]
    tags = [RECIPE.tag(DIGESTS), RECIPE.tag({PROGRAM: "0" * 64}), *(item.tag(DIGESTS) for item in changed)]
    assert len(set(tags)) == len(tags)
    with pytest.raises(KeyError):
        RECIPE.tag({})  # a file whose content is not known


def test_the_images_of_a_bottle_follow_from_what_it_asks_for(tmp_path: Path) -> None:
    agents = [
        agent_with(PROGRAM),
        images.agent_recipe("ubuntu", PROGRAM, (), 1000, "x86_64"),
        images.agent_recipe("debian", PROGRAM, ("make",), 1000, "x86_64"),
        images.agent_recipe("debian", PROGRAM, (), 1001, "x86_64"),
        images.agent_recipe("debian", PROGRAM, (), 1000, "aarch64"),
    ]
    bundles = [images.bundle_recipe("debian", PROGRAM, machine) for machine in ("x86_64", "aarch64")]
    own = []
    for text in ("FROM a\n", "FROM b\n"):
        (tmp_path / "Dockerfile").write_text(text)
        own.append(images.user_recipe(tmp_path / "Dockerfile"))
    tags = [item.tag(DIGESTS) for item in (*agents, *bundles, *own)]
    assert len(set(tags)) == len(tags)
    assert ("envoy.bpf", compile_filter("aarch64"), 0o644) in bundles[1].files
    assert ("filter.bpf", compile_filter("aarch64"), 0o644) in agents[-1].files


@pytest.mark.parametrize("kind", ["missing", "folder", "bytes"])
def test_a_dockerfile_that_cannot_be_read_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "Dockerfile"
    if kind == "folder":
        path.mkdir()
    if kind == "bytes":
        path.write_bytes(b"FROM \xff\xfe")
    with pytest.raises(NotFoundError, match="Dockerfile"):
        images.user_recipe(path)


@pytest.mark.parametrize(
    ("modules", "recipe"),
    [
        pytest.param(("sidecars.container", "sidecars.handing"), bundle_with, id="sidecars"),
        pytest.param(("backend.probe", "backend.remote.inside", "backend.terminal"), agent_with, id="agent"),
    ],
)
def test_what_runs_in_a_container_finds_all_that_it_imports(
    tmp_path: Path, modules: tuple[str, ...], recipe: Callable[[Path], Recipe]
) -> None:
    (tmp_path / "program").write_bytes(b"")
    images.write_context(recipe(tmp_path / "program"), stream := io.BytesIO())
    subprocess.run(["tar", "-xf", "-", "-C", str(tmp_path)], input=stream.getvalue(), check=True)
    imports = "".join(f"; import claude_bottle.{module}" for module in modules)
    code = f"import sys; sys.path.insert(0, sys.argv[1]){imports}"
    argv = [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "lib")]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# Digests of large files are kept


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(b"first")
    return path


def test_a_file_that_has_not_changed_is_not_read_again(large: Path, tmp_path: Path) -> None:
    cache = tmp_path / "digests.json"
    assert digest_files([large], cache) == {large: sha256(b"first").hexdigest()}
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps(dict.fromkeys(known, "what was kept")))
    assert digest_files([large], cache) == {large: "what was kept"}
    assert sorted(os.listdir(tmp_path)) == ["digests.json", "large"]


def test_a_file_that_has_changed_is_read_again_whatever_its_times_say(large: Path, tmp_path: Path) -> None:
    cache = tmp_path / "digests.json"
    digest_files([large], cache)
    before = large.stat()

    def changed() -> bool:
        """Of the same size, with the old time put back; the kernel's own time of change moves in steps."""
        large.write_bytes(b"other")
        os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns))
        return large.stat().st_ctime_ns != before.st_ctime_ns

    assert eventually(changed)
    assert digest_files([large], cache) == {large: sha256(b"other").hexdigest()}
    second = tmp_path / "second"
    second.write_bytes(b"third")
    os.utime(second, ns=(before.st_atime_ns, before.st_mtime_ns))
    second.rename(large)
    assert digest_files([large], cache) == {large: sha256(b"third").hexdigest()}


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '"text"', "\udcff", "[" * 100_000, "wrong type"])
def test_a_broken_cache_is_no_cache(large: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "digests.json"
    digest_files([large], cache)
    whole = cache.read_text()
    if content == "wrong type":
        content = json.dumps(dict.fromkeys(json.loads(whole), 7))
    cache.write_bytes(content.encode(errors="surrogateescape"))
    assert digest_files([large], cache) == {large: sha256(b"first").hexdigest()}
    assert cache.read_text() == whole


def test_each_file_has_its_own_digest(large: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"second")
    (tmp_path / "link").symlink_to("large")
    paths = [large, tmp_path / "other", tmp_path / "link"]
    for _ in range(2):
        found = digest_files(paths, tmp_path / "digests.json")
        contents = [b"first", b"second", b"first"]
        assert found == {path: sha256(text).hexdigest() for path, text in zip(paths, contents, strict=True)}


# What the engine can run, and has


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0" + machine.to_bytes(2, "little") + bytes(44)


@pytest.mark.parametrize(
    ("head", "fits"),
    [
        *((elf(0x3E), "x86_64"), (elf(0xB7), "aarch64"), (elf(0xF3), ""), (elf(0x28), "")),
        *((elf(0x3E)[:18], ""), (b"", ""), (b"#!/bin/sh\n" * 9, "")),
        *((b"\xcf\xfa\xed\xfe" + elf(0x3E)[4:], ""), (elf(0x3E00), "")),
    ],
)
def test_a_program_for_another_processor_is_refused(tmp_path: Path, head: bytes, fits: str) -> None:
    path = tmp_path / "program"
    path.write_bytes(head)
    for machine in ("x86_64", "aarch64"):
        if machine == fits:
            check_machine(path, machine)
        else:
            with pytest.raises(BottleError, match=f"not a program for Linux on {machine}"):
                check_machine(path, machine)


A, B, C = "claude-bottle/agent:0", "claude-bottle/bundle:1", "claude-bottle/own:2"
NO_SUCH = refuses(404, "No such image")


def asked(tag: str, answer: Answer) -> Expected:
    return ("GET", f"/images/{tag}/json"), answer


@pytest.mark.parametrize("there", [(), (A,), (B, C), (A, B, C)])
def test_what_the_engine_lacks_is_what_it_says_that_it_lacks(there: tuple[str, ...]) -> None:
    """Each is asked for once."""
    answers = [asked(tag, {"Id": "sha256:0"} if tag in there else NO_SUCH) for tag in (A, B, C)]
    with fake_engine(*answers) as engine:
        assert missing(engine, (A, B, A, C)) == tuple(tag for tag in (A, B, C) if tag not in there)
    with fake_engine() as engine:
        assert missing(engine, ()) == ()


@pytest.mark.parametrize("status", [0, 400, 403, 409, 500, 503])
def test_an_engine_that_does_not_say_is_not_taken_to_lack_them(status: int) -> None:
    for answers in ([asked(A, refuses(status))], [asked(A, NO_SUCH), asked(B, refuses(status))]):
        with fake_engine(*answers) as engine, pytest.raises(EngineError):
            missing(engine, (A, B))
