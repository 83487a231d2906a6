"""The rules of the house: layers, sizes, locks, a package that builds, a tree that names no machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_MODULE = 500

# Joined here, so that this file may be searched too.
FORBIDDEN = (
    *(
        host + "." + end
        for host, end in [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("crates", "io")]
    ),
    *("deb." + "debian", "proxy." + "golang", "artifact" + "registry", "artifact" + "-registry"),
    *("/wo" + "rk/main", "/wo" + "rk/shared", "/wo" + "rk/.library", "/tmp" + "/v/", ".py" + "env/versions"),
)


def files_of_the_tree() -> list[Path]:
    """What a commit of the whole tree would hold."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in sorted(done.stdout.split("\0")) if name and (path := ROOT / name).is_file()]


@pytest.fixture(scope="module")
def tree() -> list[Path]:
    files = files_of_the_tree()
    assert ROOT / "pyproject.toml" in files
    return files


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_each_layer_imports_only_what_stands_after_it() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


LAYERS = [
    *("cli", "operations", "scripted", "backend", "backend.bubblewrap", "backend.docker", "tmux"),
    *("sidecars", "state", "manifest", "proc", "policy", "errors", "text"),
]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        pytest.param("errors", "import claude_bottle.policy", id="upwards"),
        pytest.param("sidecars", "import claude_bottle.backend", id="sidecar-to-backend"),
        pytest.param("backend.bubblewrap", "import claude_bottle.backend.docker", id="backend-to-backend"),
        pytest.param("backend", "import claude_bottle.scripted", id="backend-to-scripted"),
        pytest.param("scripted", "import claude_bottle.sidecars", id="scripted-to-sidecar"),
        pytest.param("operations", "import textual", id="textual-below-the-dashboard"),
        pytest.param("stray", "", id="a-module-without-a-layer"),
    ],
)
def test_the_contract_breaks_when_a_layer_is_crossed(tmp_path: Path, module: str, line: str) -> None:
    for name in ("", *LAYERS, module):
        folder = tmp_path.joinpath("claude_bottle", *name.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(line if name == module else "", encoding="utf-8")
    config = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(config, encoding="utf-8")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr


def test_no_file_names_a_registry_or_the_machine_it_was_written_on(tree: list[Path]) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tree
        for word in FORBIDDEN
        if word.encode() in path.read_bytes().lower()
    ]
    assert found == []


def test_no_module_is_too_long(tree: list[Path]) -> None:
    lengths = {path: len(path.read_bytes().splitlines()) for path in tree if path.suffix == ".py"}
    assert not {str(path): lines for path, lines in lengths.items() if lines > LONGEST_MODULE}


def test_scripts_can_be_run_and_nothing_else(tree: list[Path]) -> None:
    commands = [
        path for path in tree if path.parent in (ROOT / "script", ROOT / ".ci") and path.suffix != ".py"
    ]
    commands.append(ROOT / "cli.py")
    assert {"bootstrap", "demo", "test", "run", "cli.py"} <= {path.name for path in commands}
    assert [str(path) for path in commands if not os.access(path, os.X_OK)] == []
    runnable = [path for path in tree if path.stat().st_mode & 0o111]
    assert [str(path) for path in runnable if not path.read_bytes().startswith(b"#!")] == []


def test_the_package_builds_and_holds_the_command(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = [name for name in names if name.endswith("/entry_points.txt")]
        assert b"claude-bottle = claude_bottle.cli:console" in archive.read(entry_points)
    assert "claude_bottle/cli/__init__.py" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"claude_bottle"}


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    assert re.search(
        r"^## \[?Unreleased\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )


@pytest.mark.parametrize("name", ["runtime", "dev", "npm"])
def test_a_lock_pins_every_package_by_hash_and_no_address(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.lock").read_text(encoding="utf-8")
    requirements = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^ *#.*\n?", "", text).strip())
    assert requirements
    assert [entry for entry in requirements if not re.match(r"[\w.-]+==\S+", entry)] == []
    assert [entry for entry in requirements if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {
        "runtime": project["dependencies"],
        "dev": [*project["dependencies"], *project["optional-dependencies"]["dev"]],
    }
    for name, requirements in asked.items():
        lock = (ROOT / "locks" / f"{name}.lock").read_text(encoding="utf-8").lower()
        names = [re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements]
        assert [name for name in names if f"\n{name}==" not in lock] == []


def test_both_locks_pin_the_same_versions() -> None:
    def pins(name: str) -> set[str]:
        return set(
            re.findall(r"(?m)^[\w.-]+==\S+", (ROOT / "locks" / f"{name}.lock").read_text(encoding="utf-8"))
        )

    assert pins("runtime") <= pins("dev")
