"""What an agent has spent and changed, counted inside, whatever it has prepared for whoever counts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from claude_bottle.operations import numbers
from claude_bottle.operations.launch import Launched
from claude_bottle.operations.numbers import Counter, Numbers
from tests.support.bottles import World, python_inside, shell_inside
from tests.support.processes import eventually

PROJECT = "$HOME/.claude/projects/-home-node-workspace"
NOTHING = Numbers(0, 0, 0)


def message(ident: str, **usage: object) -> str:
    return json.dumps({"type": "assistant", "message": {"id": ident, "usage": usage}}) + "\n"


SEVEN = message("msg_1", output_tokens=7)


def looked(launched: Launched, counter: Counter | None = None) -> Numbers:
    return (counter or Counter()).look(launched.bottle, launched.metadata)


def says(launched: Launched, script: str, stdin: str = "") -> None:
    done = launched.bottle.exec(["sh", "-c", f"set -e; mkdir -p {PROJECT}; {script}"], stdin=stdin.encode())
    assert done.status == 0, done.stderr


@pytest.fixture
def calm(shared: Launched) -> Iterator[Launched]:
    """A bottle that was not worked in, and is none again afterwards."""
    assert looked(shared) == NOTHING
    yield shared
    script = "git config --local --list --name-only | grep -E '^(filter|diff)|fsmonitor|external' |"
    script += " while read -r name; do git config --unset-all $name; done;"
    script += f" rm -rf .gitattributes .git/info/attributes {PROJECT}; git reset -q --hard; git clean -qfdx"
    assert shell_inside(shared.bottle, script).status == 0


def test_what_is_changed_is_counted_new_files_and_commits_included(calm: Launched) -> None:
    says(calm, "printf 'one\\ntwo\\n' > new; echo other > README; mkdir deep; echo x > deep/file")
    assert looked(calm) == Numbers(0, 4, 1)
    before = shell_inside(calm.bottle, "git status --porcelain; git ls-files --stage").stdout
    assert looked(calm) == Numbers(0, 4, 1)
    assert shell_inside(calm.bottle, "git status --porcelain; git ls-files --stage").stdout == before
    says(calm, "git add new; git -c user.name=a -c user.email=a@b commit -qm New; echo three >> new")
    assert looked(calm) == Numbers(0, 5, 1)
    says(calm, "echo deep > .gitignore; rm new; touch .git/index.lock")
    assert looked(calm) == Numbers(0, 2, 1)
    says(calm, f"rm .git/index.lock; git reset -q --hard {calm.metadata.base}")


def test_tokens_are_counted_once_and_only_what_is_new_is_read(calm: Launched) -> None:
    file = f"{PROJECT}/one.jsonl"
    counter = Counter()
    usage = {"input_tokens": 5, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 1000}
    first = message("msg_1", **usage, output_tokens=1) + message("msg_1", **usage, output_tokens=3)
    says(calm, f"cat > {file}", first)
    assert looked(calm, counter).tokens == 28
    says(
        calm, f"cat >> {file}; mkdir -p {PROJECT}/one/subagents", first + message("msg_2", output_tokens=100)
    )
    says(calm, f"cat > {PROJECT}/one/subagents/agent-1.jsonl", message("msg_3", input_tokens=1000))
    assert looked(calm, counter).tokens == 1128
    says(calm, f"printf '%*s' {len(first)} '' | tr ' ' x > {file}")  # would be counted, if it were read again
    assert looked(calm, counter).tokens == 1128
    assert not counter.more


HOSTILE = {
    "links to files": "for n in 1 2; do ln -s /etc/passwd $n.jsonl; done; ln -s /proc/kmsg 3.jsonl",
    "pipes": "mkfifo 1.jsonl 2.jsonl",
    "a folder": "mkdir 1.jsonl",
    "links to itself": "ln -s . a; ln -s 1.jsonl 1.jsonl",
    "odd names": "touch -- '-n.jsonl' \"$(printf 'a\\nread 0 9 x.jsonl')\" 'a b.jsonl' '$(echo).jsonl'",
    "many files": "i=0; while [ $i -lt 1500 ]; do echo x > $i.jsonl; i=$((i+1)); done",
    "closed files": "echo x > 1.jsonl; chmod 0 1.jsonl; mkdir a; chmod 0 a",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_lies_there_nothing_is_counted_that_is_none(calm: Launched, kind: str) -> None:
    says(calm, f"cd {PROJECT}; {HOSTILE[kind]}")
    assert looked(calm).tokens in (0, None)
    says(calm, f"chmod -R u+rwX {PROJECT}")


def test_endless_lines_and_numbers_beyond_all_bounds_hide_nothing_else(calm: Launched) -> None:
    code = """
        import json, pathlib
        folder = pathlib.Path.home() / ".claude/projects/-home-node-workspace"
        def said(ident, tokens): return '{"message": {"id": "%s", "usage": {"output_tokens": %s}}}' % (ident, tokens)
        lines = [said("a", -7), said("b", "1" + 400 * "0"), said("c", 9**30), said("d", "true"), said("e", "1.5"),
                 said("f", 40), "[" * 100000 + '"usage"', said("g", '"9"'), said("h", "NaN"), "", said("i", 2)]
        (folder / "1.jsonl").write_text("\\n".join(lines) + "\\n")
        with open(folder / "2.jsonl", "wb") as file:
            file.write(b'"usage"')
            file.truncate(20 << 20)
            file.seek(0, 2)
            file.write(b"\\n" + said("j", 100).encode() + b"\\n" + said("k", 1000).encode())
    """
    says(calm, "true")
    assert python_inside(calm.bottle, code).status == 0
    counter = Counter()
    assert looked(calm, counter).tokens is None  # there is more to read, so nobody knows yet
    assert counter.more
    while counter.more:
        found = looked(calm, counter)
    assert found.tokens == 142


def test_a_link_in_place_of_the_folder_leads_nowhere_outside(calm: Launched) -> None:
    says(calm, "rm -rf ~/.claude/projects; ln -s /etc ~/.claude/projects")
    assert looked(calm).tokens == 0
    assert shell_inside(calm.bottle, "rm ~/.claude/projects").status == 0


def test_what_the_repository_would_run_is_not_run_or_only_inside(calm: Launched) -> None:
    trap = "$HOME/trap"
    says(
        calm,
        f"""
        mkdir -p .git/info; printf '#!/bin/sh\\ntouch /tmp/sprung.$1; cat\\n' > {trap}; chmod +x {trap}
        git config core.fsmonitor "{trap} fsmonitor"; git config diff.external "{trap} external"
        git config diff.own.textconv "{trap} textconv"; git config diff.own.command "{trap} command"
        echo '* diff=own' > .git/info/attributes
        echo changed >> README""",
    )
    assert looked(calm) == Numbers(0, 1, 0)
    assert shell_inside(calm.bottle, "ls /tmp/sprung.* 2>/dev/null").stdout == b""


def test_a_filter_that_never_ends_is_ended(calm: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "GIT_SECONDS", 1.0)
    says(calm, "mkdir -p .git/info; echo '* filter=own' > .git/info/attributes")
    says(
        calm,
        f"git config filter.own.clean 'sleep 4711; cat'; echo x >> README; cat > {PROJECT}/1.jsonl",
        SEVEN,
    )
    assert looked(calm) == Numbers(7, None, None)
    sleeps = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 471[1]'"
    assert eventually(lambda: shell_inside(calm.bottle, sleeps).stdout == b"0\n")


def test_without_git_only_tokens_are_known(world: World) -> None:
    with world.bottle("none") as launched:
        says(launched, f"cat > {PROJECT}/1.jsonl", SEVEN)
        assert looked(launched) == Numbers(7, None, None)
        assert numbers.count(world.context, launched.metadata.slug) == Numbers(7, None, None)
