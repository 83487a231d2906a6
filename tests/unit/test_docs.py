"""The documents tell the truth where a machine can check it: links, names, commands, keys, examples, help."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from claude_bottle import cli
from claude_bottle.manifest import tables
from claude_bottle.manifest.load import load_manifest
from claude_bottle.manifest.model import Manifest
from claude_bottle.manifest.parse import ManifestError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "claude_bottle"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TICKED = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_FILE = re.compile(r"^`~/\.claude-bottle/(\S+)`:\n\n```(?:yaml|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ELSEWHERE = {".git", "archive", "bottle", "refs", "run"}  # in a state folder, or names of git
_PATH = re.compile(r"(?:\.?[\w-]+/)+(?:[\w.-]*\w)?|\w+\.(?:py|md|toml)")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def fences(text: str, kind: str) -> list[str]:
    return [body for found, body in _FENCE.findall(text) if found == kind]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "script" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cli_reference() -> ModuleType:
    return script("cli_reference")


def test_the_pages_are_there() -> None:
    wanted = {"README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    wanted |= {
        f"docs/{name}.md" for name in ("architecture", "manifest", "cli", "dashboard", "scripted-model")
    }
    assert wanted <= {str(page.relative_to(ROOT)) for page in PAGES}


def test_the_command_line_page_is_what_the_commands_say(cli_reference: ModuleType) -> None:
    assert cli_reference.page() == text_of("docs/cli.md"), "run script/docs"


def test_the_dashboards_keys_are_those_of_its_help() -> None:
    keys_reference = script("keys_reference")
    assert keys_reference.page(text_of("docs/dashboard.md")) == text_of("docs/dashboard.md"), (
        "run script/docs"
    )


def test_a_page_that_has_lost_the_place_of_its_keys_is_not_taken_for_current() -> None:
    keys_reference = script("keys_reference")
    with pytest.raises(ValueError, match="marks"):
        keys_reference.page(text_of("docs/dashboard.md").replace(keys_reference.END, ""))
    old = text_of("docs/dashboard.md").replace("| Agents | `x` |", "| Agents | `X` |")
    assert old != text_of("docs/dashboard.md") == keys_reference.page(old)


def pictured(page: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Whether this file is the dashboard's picture, found by a process that has this environment alone."""
    command = [sys.executable, "-c", _PICTURE, str(ROOT / "script"), str(page)]
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=known)


_PICTURE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import dashboard_picture
dashboard_picture.PICTURE = Path(sys.argv[2])
sys.exit(dashboard_picture.main(["--check"]))
"""


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TZ": "Asia/Tokyo", "TERM": "dumb", "NO_COLOR": "1"},
        {
            "TZ": "America/St_Johns",
            "COLORFGBG": "0;15",
            "TEXTUAL_THEME": "nord",
            "TEXTUAL_COLOR_SYSTEM": "256",
        },
    ],
    ids=["nothing", "no-colour", "light"],
)
def test_the_picture_is_what_the_dashboard_shows_wherever_it_is_made(environment: dict[str, str]) -> None:
    done = pictured(ROOT / "docs" / "dashboard.svg", **environment)
    assert done.returncode == 0, f"run script/picture\n{done.stderr}"


def test_a_picture_that_is_old_is_noticed(tmp_path: Path) -> None:
    old = tmp_path / "old.svg"
    old.write_text(text_of("docs/dashboard.svg").replace("docs-writer", "docs-reader"), encoding="utf-8")
    assert pictured(old).returncode == 1
    assert pictured(tmp_path / "none.svg").returncode == 1


def test_the_picture_fetches_nothing_and_shows_what_it_is_for() -> None:
    import xml.etree.ElementTree as ET

    svg = text_of("docs/dashboard.svg")
    root = ET.fromstring(svg)
    assert set(re.findall(r"https?://[^\s\"')]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@font-face|@import|<image|<script|href=|url\((?!#)", svg)
    words = " ".join("".join(root.itertext()).replace("\N{NO-BREAK SPACE}", " ").split())
    for word in (
        "proposals (1)",
        "agents (3)",
        "working",
        "waiting: permission prompt",
        "degraded: firewall down",
    ):
        assert word in words


def help_of(name: str) -> str:
    command = [sys.executable, "-m", "claude_bottle", name, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", text)) - {"-h", "--help"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_page_has_every_option_that_help_tells_of_and_no_other(name: str) -> None:
    (section,) = re.findall(
        rf"^## {name}\n(.*?)(?=^## |\Z)", text_of("docs/cli.md"), re.MULTILINE | re.DOTALL
    )
    assert options_in(section) == options_in(help_of(name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in _LINK.findall(prose(page.read_text(encoding="utf-8"))):
        name, _, anchor = target.partition("#")
        if "://" in name:
            continue
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


def anchors(page: Path) -> set[str]:
    """As Markdown hosts name them: lower case, spaces as hyphens, punctuation dropped."""
    titles = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_two_commands_of_the_readme_can_be_run() -> None:
    said = "\n".join(fences(text_of("README.md"), "sh"))
    for command in ("script/demo --yes", "script/test"):
        assert re.search(rf"^{command}\b", said, re.MULTILINE)
        assert os.access(ROOT / command.split()[0], os.X_OK)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = [
        *_TICKED.findall(prose(text)),
        *(line for body in fences(text, "sh") for line in body.splitlines()),
    ]
    named = {name for line in shown for name in re.findall(r"^(?:\./cli\.py|claude-bottle) ([a-z]+)", line)}
    assert named <= set(cli.COMMANDS)
    scripts = {name for line in shown for name in re.findall(r"^script/[\w.-]+", line)}
    assert [name for name in sorted(scripts) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_and_folder_that_a_page_names_exists(page: str) -> None:
    named = [word for word in _TICKED.findall(prose(text_of(page))) if _PATH.fullmatch(word)]
    named = [word for word in named if word.split("/")[0] not in _ELSEWHERE]
    assert named
    assert [name for name in named if not is_there(name)] == []


def is_there(name: str) -> bool:
    """A path of the checkout or of the package; a bare module name stands for itself wherever it is."""
    if (ROOT / name).exists() or (PACKAGE / name).exists():
        return True
    return "/" not in name and any(PACKAGE.rglob(name))


def test_the_architecture_names_every_part_of_the_package() -> None:
    named = _TICKED.findall(prose(text_of("docs/architecture.md")))
    packages = [
        path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE
    ]
    parts = {f"{path}/" for path in packages} | {path.name for path in PACKAGE.glob("*.py")}
    parts -= {"__init__.py", "__main__.py"}
    assert len(parts) > 8
    assert [part for part in sorted(parts) if not any(word.startswith(part) for word in named)] == []


def test_every_test_that_is_cited_exists() -> None:
    cited = re.findall(r"`(tests/[\w/.-]+\.py)(?:::(\w+))?`", text_of("SECURITY.md"))
    assert len(cited) > 5
    for name, function in cited:
        assert (ROOT / name).is_file(), name
        assert not function or f"def {function}(" in text_of(name), function


def keys_of(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every key of a record as the page writes it: `a.b`, `list[].key`, `map.NAME`."""
    for form in schema.get("anyOf", ()):
        yield from keys_of(form, path)
    if "items" in schema:
        yield from keys_of(schema["items"], f"{path}[]")
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from keys_of(inner, f"{path}.{name}")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield f"{path}.NAME"
        yield from keys_of(schema["additionalProperties"], f"{path}.NAME")


@pytest.mark.parametrize(
    ("title", "schema"),
    [
        pytest.param("A bottle", tables.bottle().schema, id="bottle"),
        pytest.param("An agent", tables.agent().schema, id="agent"),
    ],
)
def test_the_manifest_page_has_every_key_and_no_other(title: str, schema: Mapping[str, Any]) -> None:
    sections = re.split(r"^## ", text_of("docs/manifest.md"), flags=re.MULTILINE)
    (section,) = [part for part in sections if part.startswith(f"{title}\n")]
    (table,) = re.findall(r"^\| key \| meaning \| default \|\n(.*?)\n\n", section, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    known = [key.removeprefix(".") for key in keys_of(schema)]
    # A map has a row for the values of its names only where those are no records with rows of their own.
    known = [
        key for key in known if not any(other.startswith(f"{key}.") for other in known) or "NAME" not in key
    ]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(known)


@pytest.mark.parametrize("page", ["README.md", "docs/manifest.md"])
def test_the_manifest_files_of_a_page_make_a_manifest(page: str, tmp_path: Path) -> None:
    files = _FILE.findall(text_of(page))
    assert files
    for name, content in files:
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(content, encoding="utf-8")
    loaded = load_manifest(tmp_path)
    assert loaded.warnings == ()
    assert len(loaded.sources) >= len(files)


def test_every_other_example_of_the_manifest_page_is_a_bottle() -> None:
    import yaml

    text = _FILE.sub("", text_of("docs/manifest.md"))
    examples = fences(text, "yaml")
    assert examples
    for example in examples:
        manifest = Manifest.from_json_obj({"bottles": {"example": yaml.safe_load(example)}})
        assert "example" in manifest.bottles


def test_the_errors_of_the_manifest_page_are_what_is_said(tmp_path: Path) -> None:
    shown = next(body for body in fences(text_of("docs/manifest.md"), "") if "did you mean" in body)
    (tmp_path / "bottles").mkdir()
    (tmp_path / "agents").mkdir()
    bottle = "---\negress:\n  allowlist: [https://example.org/]\n  routes:\n    - hots: api.example.org\n"
    (tmp_path / "bottles" / "dev.md").write_text(
        f"{bottle}      methods: [get]\nlimits: {{memory: 8 GB}}\n---\n"
    )
    (tmp_path / "agents" / "a.md").write_text("---\nbottle: deev\n---\nWork.\n")
    with pytest.raises(ManifestError) as raised:
        load_manifest(tmp_path)
    said = raised.value.message.replace(str(tmp_path), "~/.claude-bottle")
    assert [line.strip() for line in shown.removeprefix("claude-bottle: ").splitlines()] == said.splitlines()


def test_contributing_names_the_needs_that_a_test_may_have(pytestconfig: pytest.Config) -> None:
    (marker,) = [line for line in pytestconfig.getini("markers") if line.startswith("needs(")]
    needs = marker.rpartition(": ")[2].split(", ")
    (told,) = re.findall(r"Known needs: (.*?)\.", text_of("CONTRIBUTING.md"), re.DOTALL)
    assert sorted(_TICKED.findall(told)) == sorted(needs)


def test_the_changelog_tells_of_this_version() -> None:
    from claude_bottle import __version__

    assert re.search(rf"^## \[Unreleased\] {re.escape(__version__)}$", text_of("CHANGELOG.md"), re.MULTILINE)


def test_a_key_that_is_not_told_of_would_be_noticed() -> None:
    schema = {"properties": {"a": {"items": {"properties": {"b": {}}}}, "c": {"additionalProperties": {}}}}
    assert list(keys_of(schema)) == [".a", ".a[].b", ".c", ".c.NAME"]
