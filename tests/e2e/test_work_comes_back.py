"""What an agent made comes back, whatever its repository says: unsound work is not taken, and the rest is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, bash, scripted

pytestmark = pytest.mark.needs("envoy", "claude")

COMMIT = "git add --all && git commit -qm"


@pytest.fixture
def ready(cli: Cli, idle: ScriptedModel) -> Cli:
    cli.manifest(idle.url)
    return cli


def test_hostile_refs_and_config_of_an_agent_change_nothing_on_the_host(ready: Cli) -> None:
    folder = ready.repository()
    ready.git("branch", "victim")
    before = {ref: ready.git("rev-parse", ref) for ref in ("main", "victim")}
    config = (folder / ".git" / "config").read_bytes()
    slug = ready.start()
    script = """
        git config core.fsmonitor 'touch /tmp/run-by-fsmonitor'
        git config filter.evil.clean 'touch /tmp/run-by-filter; cat'
        echo '*.py filter=evil diff=evil' > .gitattributes
        git config diff.evil.textconv 'touch /tmp/run-by-textconv'
        mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch /tmp/run-by-hook' > .git/hooks/post-index-change
        chmod +x .git/hooks/post-index-change
        git add --all; git commit -qm Evil
        for ref in refs/heads/main refs/heads/victim refs/tags/v1 refs/heads/refs/heads/main refs/remotes/origin/x \
            refs/heads/a/../b 'refs/heads/--upload-pack=x' refs/heads/HEAD refs/bottles/x/heads/y refs/replace/x
        do git update-ref "$ref" HEAD 2>/dev/null; done
        printf '%s\\n' "$(git rev-parse HEAD)" > '.git/refs/heads/-dash'
        for n in $(seq 1200); do echo "create refs/heads/many/$n HEAD"; done | git update-ref --stdin
    """
    ready.inside(slug, script).ok()
    stopped = ready("stop", slug)
    assert "Traceback" not in stopped.talk
    assert {ref: ready.git("rev-parse", ref) for ref in before} == before
    assert (folder / ".git" / "config").read_bytes() == config
    listed = ready.git("for-each-ref", "--format=%(refname)").splitlines()
    assert {ref for ref in listed if not ref.startswith(f"refs/bottles/{slug}/")} == {
        "refs/heads/main",
        "refs/heads/victim",
    }
    assert f"refs/bottles/{slug}/heads/bottle/{slug}" in listed
    ready("diff", slug).ok()
    assert not list(Path("/tmp").glob("run-by-*"))


EVIL_TREE = r"""
    blob=$(echo evil | git hash-object -w --stdin)
    tree=$(python3 -c 'import sys
sys.stdout.buffer.write(b"100644 .git\\0" + bytes.fromhex(sys.argv[1]))' "$blob" |
        git hash-object -w -t tree --stdin --literally)
    git update-ref refs/heads/evil "$(git commit-tree -p HEAD -m evil "$tree")"
"""
MISSING_TREE = r"""
    commit=$(git commit-tree -p HEAD -m lost "$(echo x > lost; git add lost; git write-tree)")
    git update-ref refs/heads/lost "$commit"
    real=$(command -v git)
    mkdir -p ~/.local/bin
    cat > ~/.local/bin/git <<END
#!/bin/sh
case "\$1" in
    bundle)
        printf '# v2 git bundle\n%s refs/heads/lost\n\n' $commit
        echo $commit | $real pack-objects -q --stdout
        ;;
    *) exec $real "\$@" ;;
esac
END
    chmod +x ~/.local/bin/git
"""
GARBAGE = """
    mkdir -p ~/.local/bin
    printf '#!/bin/sh\\necho refs/heads/main; echo; head -c 100000 /dev/urandom' > ~/.local/bin/git
    chmod +x ~/.local/bin/git
"""
A_BLOB = r"""
    git update-ref refs/heads/blob HEAD
    mkdir -p ~/.local/bin
    real=$(command -v git) blob=$(echo blob | git hash-object -w --stdin)
    cat > ~/.local/bin/git <<END
#!/bin/sh
case "\$1" in
    rev-list) echo yes ;;
    bundle)
        printf '# v2 git bundle\n%s refs/heads/blob\n\n' $blob
        echo $blob | $real pack-objects -q --stdout
        ;;
    *) exec $real "\$@" ;;
esac
END
    chmod +x ~/.local/bin/git
"""


@pytest.mark.parametrize(
    "script", [EVIL_TREE, MISSING_TREE, GARBAGE, A_BLOB], ids=["tree", "missing", "garbage", "blob"]
)
def test_work_that_is_not_sound_is_not_taken_over(ready: Cli, script: str) -> None:
    """A tree with a .git entry, a commit without its tree, no bundle at all, a branch that is no commit.

    The git inside is the agent's own; what it says is checked outside.
    """
    ready.repository()
    slug = ready.start()
    ready.inside(slug, script).ok()
    stopped = ready("stop", slug)
    assert (stopped.status, "the work was not handed over" in stopped.talk) == (1, True), stopped.everything
    assert "Traceback" not in stopped.talk
    assert ready.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert ready.git("fsck", "--strict", "--no-dangling") == ""
    assert (ready.slugs(), ready.preserved()) == ([], [slug])
    again = ready("pull", slug)
    again.failed(again.status)


def test_what_git_cannot_add_keeps_nothing_else_back(ready: Cli) -> None:
    """A file that may not be read, and a repository in the repository: the rest comes, and it is said."""
    ready.repository()
    slug = ready.start()
    script = f"""
        echo '# mine' >> adder.py; {COMMIT} Mine
        echo x > secret; chmod 000 secret
        git init -q inner; echo y > inner/file
        echo z > plain; rm test_adder.py
    """
    ready.inside(slug, script).ok()
    pulled = ready("pull", slug)
    assert (pulled.status, len(pulled.rows), "git could not add all" in pulled.talk) == (1, 2, True), (
        pulled.everything
    )
    stopped = ready("stop", slug)
    assert (stopped.status, "git could not add all" in stopped.talk) == (1, True), stopped.everything
    uncommitted = f"refs/bottles/{slug}/uncommitted"
    assert ready.git("diff", "--name-status", "main", uncommitted).splitlines() == [
        "M\tadder.py",
        "A\tplain",
        "D\ttest_adder.py",
    ]
    assert ready.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"


def test_commits_on_no_branch_and_on_odd_ones_are_not_lost(ready: Cli) -> None:
    ready.repository()
    slug = ready.start()
    script = f"""
        git switch -q -c fix/one; echo 1 > one; {COMMIT} One
        git switch -q -c "ümläut"; echo 2 > two; {COMMIT} Two
        git switch -q --detach; echo 3 > three; {COMMIT} Three
    """
    ready.inside(slug, script).ok()
    stopped = ready("stop", slug)
    assert (stopped.status, "1 branch with a name" in stopped.talk) == (1, True), stopped.everything
    assert set(ready.refs(slug)) == {"heads/fix/one", "detached"}
    assert ready.git("log", "--format=%s", f"refs/bottles/{slug}/detached") == "Three\nTwo\nOne\nStart"
    assert ready.preserved() == [slug]


def test_a_folder_tree_without_end_can_be_removed(ready: Cli) -> None:
    ready.repository()
    script = """
import os
for top in ("/home/node", "/home/node/.claude/x", "/tmp"):
    os.makedirs(top, exist_ok=True)
    os.chdir(top)
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    open("end", "w").close()
    os.chmod(".", 0)
"""
    with scripted(bash(f"python3 - <<'END'\n{script}\nEND"), {"say": "Dug."}) as model:
        ready.manifest(model.url)
        ready("run", ready.agent, "-p", "Dig.", "--yes").ok()
    assert model.failures == ()
    assert (ready.slugs(), ready.preserved()) == ([], [])


def test_a_folder_tree_without_end_does_not_keep_commits_back(ready: Cli) -> None:
    ready.repository()
    slug = ready.start()
    ready.inside(slug, f"echo '# mine' >> adder.py; {COMMIT} Mine").ok()
    dig = "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\nopen('end', 'w').close()"
    ready("exec", slug, "--", "python3", "-c", dig).ok()
    stopped = ready("stop", slug)
    assert "Traceback" not in stopped.talk
    assert ready.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"
