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
    "remote.",
)


def secret_files(runner: Runner, top: Path, repository: Repository | None) -> tuple[str, ...]:
    """Paths below `top`. In a repository only ignored files count: what is tracked is meant to be shared."""
    if repository is not None:
        listing = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
        output = checked(runner, git(top, *listing), f"git cannot list {top}").stdout
        names = [os.fsdecode(item) for item in output.split(b"\0") if item]
    else:
        names = sorted(os.listdir(top))
    return tuple(found for name in names for found in _within(top, name.rstrip("/")))


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
    """Hides `name` of the lower tree. Folders on the way get the lower's mode."""
    folder = upper
    for part in Path(name).parts[:-1]:
        folder = folder / part
        mode = stat.S_IMODE(os.stat(lower / folder.relative_to(upper)).st_mode)
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    target = folder / Path(name).name
    try:
        os.mknod(target, stat.S_IFCHR | 0o000, os.makedev(0, 0))
    except FileExistsError:
        pass  # hidden by an earlier launch
    except OSError as error:
        raise BottleError(
            f"cannot hide {name} in the overlay: {error.strerror}", "use --workspace clone"
        ) from error


def clean_config(runner: Runner, repository: Repository, target: Path) -> None:
    """git's config of the overlay: without credentials, headers, helpers, includes or anything that runs."""
    listing = git(repository.top, "config", "--local", "--no-includes", "--null", "--list")
    output = checked(runner, listing, "git cannot read its own config").stdout
    target.mkdir(exist_ok=True)
    config = target / "config"
    config.write_text("")
    for entry in output.decode(errors="surrogateescape").split("\0"):
        key, newline, value = entry.partition("\n")
        if not newline or not key.lower().startswith(_KEPT):
            continue
        if key.endswith("url"):
            value = without_credentials(value)
        if value:
            command = git(target, "config", "--file", str(config), "--add", key, value)
            checked(runner, command, f"git cannot copy its setting {key}")
