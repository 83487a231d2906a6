"""What an overlay hides of the host's tree: ignored files that look secret, and git's own credentials.

Invariant: hidden files are whiteouts in the overlay's upper layer, so nothing inside can uncover them.
Source: the kernel's overlayfs document, "whiteouts and opaque directories".
"""

from __future__ import annotations

import fnmatch
import os
import stat
from pathlib import Path

from claude_bottle.errors import BottleError
from claude_bottle.operations.repository import Repository, git, without_credentials
from claude_bottle.proc import Runner, checked

_PATTERNS = (
    ".env",
    ".env.*",
    "*.env",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "id_rsa*",
    "id_ed25519*",
    "id_ecdsa*",
    ".npmrc",
    ".pypirc",
    ".netrc",
    "_netrc",
    ".git-credentials",
    ".pgpass",
    "*credential*",
    "*secret*",
    "*.tfvars",
    "*.tfstate",
    "kubeconfig",
    ".dockercfg",
    ".aws",
    ".ssh",
    ".gnupg",
    ".kube",
)
_HARMLESS = ("*.example", "*.sample", "*.template")
_KEPT = (
    "core.repositoryformatversion",
    "core.filemode",
    "core.bare",
    "core.logallrefupdates",
    "core.ignorecase",
    "core.symlinks",
    "core.autocrlf",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "extensions.",
    "branch.",
    "user.",
)
_KEPT_OF_REMOTES = (
    "url",
    "pushurl",
    "fetch",
    "push",
    "tagopt",
    "mirror",
    "prune",
    "promisor",
    "partialclonefilter",
)
_URLS = ("url", "pushurl", "remote", "pushremote")  # a branch may name a URL where a remote is meant
_HIDDEN = ("config.worktree", "worktrees")  # settings of other work trees, and of this one


def secret_files(runner: Runner, top: Path, repository: Repository | None) -> tuple[str, ...]:
    """Paths below `top`. In a repository only ignored files count: what is tracked is meant to be shared."""
    if repository is None:
        return tuple(found for name in sorted(os.listdir(top)) for found in _within(top, name))
    found = _ignored_secrets(runner, top)
    for folder in _submodules(runner, top) if repository.submodules else ():
        found += [os.path.join(folder, name) for name in _ignored_secrets(runner, top / folder)]
    return tuple(found)


def _ignored_secrets(runner: Runner, top: Path) -> list[str]:
    listing = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    output = checked(runner, git(top, *listing), f"git cannot list {top}").stdout
    names = [os.fsdecode(item).rstrip("/") for item in output.split(b"\0") if item]
    return [found for name in names for found in _within(top, name)]


def _submodules(runner: Runner, top: Path) -> list[str]:
    """Those that are checked out, nested ones included, as paths below `top`."""
    output = checked(runner, git(top, "ls-files", "-z", "--stage"), f"git cannot list {top}").stdout
    entries = (item.partition(b"\t") for item in output.split(b"\0") if item.startswith(b"160000 "))
    names = [name for name in (os.fsdecode(entry[2]) for entry in entries) if (top / name / ".git").exists()]
    nested = ((name, inner) for name in names for inner in _submodules(runner, top / name))
    return names + [os.path.join(name, inner) for name, inner in nested]


def _within(top: Path, name: str) -> list[str]:
    """The path itself if it looks secret, else what looks secret below it, where it is a small folder."""
    if looks_secret(name):
        return [name]
    path = top / name
    if path.is_symlink() or not path.is_dir():
        return []
    found = []
    for folder, folders, files in os.walk(path):
        for item in (*folders, *files):
            if looks_secret(item):
                found.append(os.path.relpath(os.path.join(folder, item), top))
        folders[:] = [item for item in folders if not looks_secret(item)]
    return found


def looks_secret(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    if any(fnmatch.fnmatchcase(last, pattern) for pattern in _HARMLESS):
        return False
    return any(fnmatch.fnmatchcase(last, pattern) for pattern in _PATTERNS)


def whiteout(upper: Path, lower: Path, name: str) -> None:
    """Hides `name` of the lower tree."""
    target = _same_folder(upper, lower, Path(name).parent) / Path(name).name
    try:
        os.mknod(target, stat.S_IFCHR | 0o000, os.makedev(0, 0))
    except FileExistsError:
        pass  # hidden by an earlier launch
    except OSError as error:
        raise BottleError(
            f"cannot hide {name} in the overlay: {error.strerror}", "use --workspace clone"
        ) from error


def _same_folder(upper: Path, lower: Path, name: Path) -> Path:
    """The folder `name` in the upper tree, with the lower's modes."""
    folder = upper
    for part in name.parts:
        folder = folder / part
        mode = stat.S_IMODE(os.stat(lower / folder.relative_to(upper)).st_mode)
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    return folder


def hide_credentials(runner: Runner, repository: Repository, upper: Path) -> None:
    """git's own: settings that hold a secret or run something, in the repository and in its submodules."""
    top = repository.top
    for folder in _git_folders(runner, repository):
        names = sorted(os.listdir(top / folder))
        for name in names:
            if name in _HIDDEN or looks_secret(name):
                whiteout(upper, top, str(folder / name))
        if "config" in names:
            text = clean_config(runner, top / folder / "config", submodule=folder != Path(".git"))
            (_same_folder(upper, top, folder) / "config").write_text(text, errors="surrogateescape")


def _git_folders(runner: Runner, repository: Repository) -> list[Path]:
    """Every git folder below the top, as a path from there: of submodules, once checked out or now."""
    top, modules = repository.top, Path(".git", "modules")
    found = [Path(".git")]
    for folder, folders, files in os.walk(top / modules):
        if "HEAD" in files and "config" in files:
            found.append(Path(folder).relative_to(top))
            folders[:] = [name for name in folders if name == "modules"]
    for name in _submodules(runner, top) if repository.submodules else ():
        if (top / name / ".git").is_dir():
            found.append(Path(name, ".git"))
    return found


def clean_config(runner: Runner, file: Path, *, submodule: bool) -> str:
    """git's settings without credentials, headers, helpers, includes or anything that runs."""
    listing = git(file.parent.parent, "config", "--file", str(file), "--no-includes", "--null", "--list")
    output = checked(runner, listing, f"git cannot read {file}").stdout
    lines = []
    for entry in output.decode(errors="surrogateescape").split("\0"):
        key, newline, value = entry.partition("\n")
        section, _, name = key.rpartition(".")
        if not newline or not (_is_kept(section, name) or (submodule and key == "core.worktree")):
            continue
        if name in _URLS:
            value = without_credentials(value)
        if value:
            lines.append(f"[{_header(section)}]\n\t{name} = {_quoted(value)}\n")
    return "".join(lines)


def _is_kept(section: str, name: str) -> bool:
    if section.startswith("remote."):
        return name in _KEPT_OF_REMOTES
    return f"{section}.{name}".lower().startswith(_KEPT)


def _header(section: str) -> str:
    """git-config(1): a section, or a section and its quoted subsection."""
    name, dot, subsection = section.partition(".")
    return f"{name} {_quoted(subsection)}" if dot else name


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
