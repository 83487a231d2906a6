"""Files become one manifest; a project's files cannot widen anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from claude_bottle.manifest.load import LoadedManifest, Source, load_manifest
from claude_bottle.manifest.parse import ManifestError

DEV = "---\negress:\n  allowlist: [files.example.org]\n---\nWhat this bottle is for.\n"
REVIEWER = "---\nbottle: dev\ndescription: Reviews\n---\n\nYou review.\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write(tmp_path / "home/bottles/dev.md", DEV)
    write(tmp_path / "home/agents/reviewer.md", REVIEWER)
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/.claude-bottle/agents").mkdir(parents=True)
    return tmp_path / "project"


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(home: Path, project: Path | None = None) -> list[str]:
    with pytest.raises(ManifestError) as refused:
        load_manifest(home, project)
    return [str(problem).replace(f"{home.parent}/", "") for problem in refused.value.problems]


def warnings(loaded: LoadedManifest, home: Path) -> list[str]:
    return [text.replace(f"{home.parent}/", "") for text in loaded.warnings]


def test_markdown(home: Path) -> None:
    loaded = load_manifest(home)
    dev, reviewer = loaded.manifest.bottles["dev"], loaded.manifest.agents["reviewer"]
    assert [route.host for route in dev.egress.routes] == ["files.example.org"]
    assert dev.egress.routes[0].origin == f"{home}/bottles/dev.md:3"
    assert (reviewer.prompt, reviewer.description) == ("You review.", "Reviews")
    assert dict(loaded.sources) == {
        ("bottles", "dev"): Source(home / "bottles/dev.md"),
        ("agents", "reviewer"): Source(home / "agents/reviewer.md"),
    }
    assert loaded.warnings == ()


def test_json_and_markdown_together(home: Path) -> None:
    write(
        home / "claude-bottle.json",
        '{"bottles": {"net": {"extends": "dev"}}, "agents": {"a": {"bottle": "net"}}}',
    )
    manifest = load_manifest(home).manifest
    assert set(manifest.bottles) == {"dev", "net"}
    assert manifest.bottle_of("a").egress == manifest.bottles["dev"].egress


def test_windows_line_ends_and_a_byte_order_mark(home: Path) -> None:
    write(home / "agents/reviewer.md", b"\xef\xbb\xbf" + REVIEWER.replace("\n", "\r\n").encode())
    assert load_manifest(home).manifest.agents["reviewer"].prompt == "You review."


def test_no_home_is_an_empty_manifest(tmp_path: Path) -> None:
    assert load_manifest(tmp_path / "nothing", tmp_path / "none").manifest.bottles == {}


def test_six_planted_mistakes(home: Path) -> None:
    write(
        home / "bottles/dev.md",
        "---\n"
        "enw: {}\n"  # 2
        "egress:\n"
        "  routes:\n"
        "    - host: api.example.org\n"
        "      methods:\n"
        "        - get\n"  # 7
        "    - hots: example.org\n"  # 8
        "limits:\n"
        "  memory: 4 gigabytes\n"  # 10
        "---\n",
    )
    write(home / "agents/reviewer.md", "---\nname: x\nbottle: dve\n---\n")  # 3
    write(home / "claude-bottle.json", '{\n "bottles": {\n  "net": {\n   "extends": "dex"\n  }\n }\n}')  # 4
    assert problems(home) == [
        'home/bottles/dev.md:2:1: bottles.dev.enw: unknown key; did you mean "env"?',
        "home/bottles/dev.md:7:11: bottles.dev.egress.routes[0].methods[0]: "
        "methods are written in capitals: GET",
        'home/bottles/dev.md:8:7: bottles.dev.egress.routes[1].hots: unknown key; did you mean "host"?',
        "home/bottles/dev.md:10:3: bottles.dev.limits.memory: "
        'a size is a whole number with K, M, G or T, such as "512M"',
        "home/claude-bottle.json:4:4: bottles.net.extends: "
        'extends a bottle that does not exist (net -> dex); did you mean "dev"?',
        'home/agents/reviewer.md:3:1: agents.reviewer.bottle: there is no bottle "dve"; did you mean "dev"?',
    ]


def test_defined_twice(home: Path) -> None:
    text = '{"bottles": {"dev": {}},\n "agents": {"reviewer": {"bottle": "dev"}}}'
    write(home / "claude-bottle.json", text)
    where = "home/claude-bottle.json"
    assert problems(home) == [
        f"{where}:1:14: bottles.dev: is defined in home/bottles/dev.md as well",
        f"{where}:2:13: agents.reviewer: is defined in home/agents/reviewer.md as well",
    ]


def test_a_prompt_has_one_place(home: Path) -> None:
    write(home / "agents/reviewer.md", "---\nbottle: dev\nprompt: x\n---\nbody")
    assert problems(home) == [
        "home/agents/reviewer.md:3:1: agents.reviewer.prompt: the body of the file is the prompt"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", ":1:1: a manifest is an object with the keys bottles and agents"),
        ('{"bottles": []}', ":1:2: bottles: expected an object of names"),
        ('{"botles": {}}', ':1:2: botles: unknown key; did you mean "bottles"?'),
        ('{"bottles": {"x": {}, "x": {}}}', ":1:23: bottles.x: the key is there twice"),
        ('{"bottles": ', ":1:13: not JSON: Expecting value"),
    ],
)
def test_mistakes_in_json(home: Path, text: str, problem: str) -> None:
    write(home / "claude-bottle.json", text)
    assert problems(home) == [f"home/claude-bottle.json{problem}"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"---\n\xff\n---\n", "is not UTF-8 text (byte 4)"),
        (b"---\n---\n" + b"x" * (1 << 20), "is larger than 1 MiB"),
    ],
)
def test_unfit_files(home: Path, content: bytes, problem: str) -> None:
    write(home / "bottles/other.md", content)
    assert problems(home) == [f"home/bottles/other.md: {problem}"]


def test_things_that_are_no_files(home: Path) -> None:
    (home / "bottles/folder.md").mkdir()
    os.mkfifo(home / "bottles/pipe.md")
    (home / "bottles/dead.md").symlink_to("nowhere")
    assert problems(home) == [
        "home/bottles/dead.md: is a symbolic link that leads nowhere",
        "home/bottles/folder.md: is not a regular file",
        "home/bottles/pipe.md: is not a regular file",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission(home: Path) -> None:
    (home / "bottles/dev.md").chmod(0)
    assert problems(home)[0] == "home/bottles/dev.md: cannot be opened: Permission denied"


def test_the_home_itself_is_no_folder(tmp_path: Path) -> None:
    home = write(tmp_path / "home", "x")
    assert problems(home) == ["home: cannot be opened: Not a directory"]


def test_a_home_may_be_made_of_links(home: Path, tmp_path: Path) -> None:
    dotfiles = home.rename(tmp_path / "dotfiles")
    home.symlink_to(dotfiles)
    moved = (dotfiles / "bottles/dev.md").rename(tmp_path / "elsewhere.md")
    (dotfiles / "bottles/dev.md").symlink_to(moved)
    assert "dev" in load_manifest(home).manifest.bottles


def test_bad_file_names(home: Path) -> None:
    write(home / "bottles/Dev\x1b[2J.md", DEV)
    (problem,) = problems(home)
    assert problem.isprintable()
    assert "a name is 1 to 40 lower-case letters" in problem


def test_other_files_are_named(home: Path) -> None:
    write(home / "bottles/net.yaml", "")
    write(home / "bottles/.net.md.swp", "")
    assert warnings(load_manifest(home), home) == ["home/bottles/net.yaml: ignored; only *.md is read here"]


def test_a_project_adds_agents(home: Path, project: Path) -> None:
    path = write(project / ".claude-bottle/agents/builder.md", "---\nbottle: dev\n---\nYou build.")
    loaded = load_manifest(home, project)
    assert loaded.manifest.agents["builder"].prompt == "You build."
    assert loaded.sources["agents", "builder"] == Source(path, project=True)


def test_a_project_defines_no_bottles(home: Path, project: Path) -> None:
    write(project / ".claude-bottle/bottles/dev.md", "---\negress: {allowlist: [evil.test]}\n---\n")
    write(project / ".claude-bottle/bottles/evil.md", DEV)
    write(project / ".claude-bottle/claude-bottle.json", '{"bottles": {"evil": {}}}')
    loaded = load_manifest(home, project)
    assert loaded.manifest == load_manifest(home).manifest
    assert warnings(loaded, home) == [
        "project/.claude-bottle/bottles: ignored; only your home defines bottles",
        "project/.claude-bottle/claude-bottle.json: ignored; only your home defines bottles",
    ]


def test_an_agent_of_the_home_cannot_be_replaced(home: Path, project: Path) -> None:
    write(project / ".claude-bottle/agents/reviewer.md", "---\nbottle: dev\n---\nEvil.")
    loaded = load_manifest(home, project)
    assert loaded.manifest.agents["reviewer"].prompt == "You review."
    assert warnings(loaded, home) == [
        "project/.claude-bottle/agents/reviewer.md: ignored; an agent of your home has the same name"
    ]


def test_a_project_cannot_combine_bottles(home: Path, project: Path) -> None:
    write(home / "bottles/net.md", "---\n---\n")
    write(project / ".claude-bottle/agents/evil.md", "---\nbottle: [dev, net]\n---\n")
    assert problems(home, project) == [
        "project/.claude-bottle/agents/evil.md:2:1: agents.evil.bottle: "
        "a project's agent names one bottle of the home; it cannot combine several"
    ]


def test_a_project_names_bottles_that_exist(home: Path, project: Path) -> None:
    write(project / ".claude-bottle/agents/evil.md", "---\nbottle: own\n---\n")
    assert problems(home, project) == [
        'project/.claude-bottle/agents/evil.md:2:1: agents.evil.bottle: there is no bottle "own"; known: dev'
    ]


def test_a_project_has_no_home_at_all(tmp_path: Path, project: Path) -> None:
    write(project / ".claude-bottle/agents/evil.md", "---\nbottle: own\n---\n")
    assert problems(tmp_path / "nothing", project) == [
        "project/.claude-bottle/agents/evil.md:2:1: agents.evil.bottle: "
        'there is no bottle "own"; no bottle is defined'
    ]


@pytest.mark.parametrize("link", [".claude-bottle", ".claude-bottle/agents", ".claude-bottle/agents/x.md"])
def test_nothing_of_a_project_is_a_link(home: Path, project: Path, tmp_path: Path, link: str) -> None:
    write(project / ".claude-bottle/agents/x.md", "---\nbottle: dev\n---\n")
    (project / link).rename(tmp_path / "outside")
    (project / link).symlink_to(tmp_path / "outside")
    (problem,) = problems(home, project)
    assert problem.startswith(f"project/{link}: is a symbolic link where only a real ")


def test_a_projects_pipe_is_not_waited_for(home: Path, project: Path) -> None:
    os.mkfifo(project / ".claude-bottle/agents/x.md")
    assert problems(home, project) == ["project/.claude-bottle/agents/x.md: is not a regular file"]


def test_in_the_folder_of_the_home_the_project_is_the_home(home: Path, tmp_path: Path) -> None:
    real = home.rename(tmp_path / ".claude-bottle")
    loaded = load_manifest(real, tmp_path)
    assert loaded.warnings == ()
    assert set(loaded.manifest.agents) == {"reviewer"}


def test_too_many_files(home: Path, project: Path) -> None:
    for number in range(1001):
        (project / f".claude-bottle/agents/a{number}.md").touch()
    assert problems(home, project) == ["project/.claude-bottle/agents: holds more than 1000 files"]


def test_the_digest_follows_the_meaning(home: Path) -> None:
    before = load_manifest(home).digest
    write(home / "bottles/dev.md", DEV.replace("---\n", "---\n# a comment\n", 1))
    assert load_manifest(home).digest == before
    write(home / "bottles/dev.md", DEV.replace("files.example.org", "example.org"))
    assert load_manifest(home).digest != before


def test_the_same_manifest_from_json_and_markdown(home: Path, tmp_path: Path) -> None:
    obj = {
        "bottles": {"dev": {"egress": {"allowlist": ["files.example.org"]}}},
        "agents": {"reviewer": {"bottle": "dev", "description": "Reviews", "prompt": "You review."}},
    }
    write(tmp_path / "json/claude-bottle.json", json.dumps(obj))
    assert load_manifest(tmp_path / "json").digest == load_manifest(home).digest
