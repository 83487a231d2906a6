"""An approval for good: the route in the operator's own manifest, where it would have written it.

Invariant: what is written was read back as a manifest that has exactly this route more, in this bottle and in
those that extend it, and nothing else is another. Whatever else would come of it is refused.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import stat
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

from claude_bottle.errors import BottleError, UsageError
from claude_bottle.manifest.inherit import ancestry
from claude_bottle.manifest.insertion import NoPlaceError, into_json, into_markdown
from claude_bottle.manifest.load import JSON_FILE, LoadedManifest, load_manifest
from claude_bottle.manifest.model import Bottle, BottleEgress, Manifest, digest_of
from claude_bottle.manifest.problems import ManifestError
from claude_bottle.operations import claude
from claude_bottle.operations.context import Context
from claude_bottle.operations.deciding import Finish, digest_of_file
from claude_bottle.operations.proposals import Given, Waiting, allowable, asked_for
from claude_bottle.policy.edits import led
from claude_bottle.policy.model import Route
from claude_bottle.state import store

_MAX_FILE = 1 << 20


class Writing(NamedTuple):
    """What will be written when it is agreed to; `difference` is a diff, not made safe to look at."""

    finish: Finish
    difference: tuple[str, ...]


def prepare(context: Context, waiting: Waiting, given: Given | None) -> Writing:
    """Nothing is written yet. Raises BottleError where it cannot be added for sure."""
    route = allowable((given or asked_for(waiting.proposal)).route, own=given is not None)
    bottle = store.load(context.home, waiting.slug).bottle
    if "+" in bottle:
        raise _by_hand(f"its agent combines the bottles {bottle}", "choose one", route)
    loaded = load_manifest(context.home.root)
    if bottle not in loaded.manifest.bottles:
        raise _by_hand(f"there is no bottle {bottle} any more", "", route)
    route = led(loaded.manifest.bottles[bottle].egress.routes, route)
    path = Path(os.path.realpath(loaded.sources["bottles", bottle].path))
    raw = _read(path)
    note = f"proposal {waiting.proposal.id} of {waiting.slug}, {time.strftime('%Y-%m-%d')}"
    try:
        text = _with(raw, path, bottle, route, note)
        _check(context, loaded, path, text, bottle, route)
    except (NoPlaceError, ManifestError) as error:
        raise _by_hand(f"{path}: {error}", "", route) from error
    finish = Finish(str(path), _digest(raw), _digest(text), partial(_write, path, raw, text))
    return Writing(finish, _difference(path, raw, text))


def _by_hand(why: str, hint: str, route: Route) -> UsageError:
    from claude_bottle.manifest.rules_text import ROUTES, routes_text

    text = routes_text(ROUTES, [(route, "to be added")]).rstrip()
    return UsageError(
        f"it cannot be written into the manifest: {why}",
        f"{hint + chr(10) if hint else ''}approve it for the session, and add by hand under egress:\n{text}",
    )


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BottleError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE:
        raise BottleError(f"{path} is larger than 1 MiB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise BottleError(f"{path} is not UTF-8 text") from None


def _with(raw: str, path: Path, bottle: str, route: Route, note: str) -> str:
    """With its byte order mark and its kind of line breaks. Raises NoPlaceError."""
    breaks = "\r\n" if "\r\n" in raw else "\n"
    plain = raw.removeprefix("\ufeff").replace("\r\n", "\n")
    made = into_json(plain, bottle, route) if path.suffix == ".json" else into_markdown(plain, route, note)
    return raw[: len(raw) - len(raw.removeprefix("\ufeff"))] + made.replace("\n", breaks)


def _check(
    context: Context, loaded: LoadedManifest, path: Path, text: str, bottle: str, route: Route
) -> None:
    """Raises NoPlaceError, ManifestError."""
    with tempfile.TemporaryDirectory(prefix="claude-bottle-") as folder:
        _mirror(context.home.root, Path(folder), path, text)
        after = load_manifest(Path(folder)).manifest
    before = loaded.manifest
    if after.agents.keys() != before.agents.keys() or after.bottles.keys() != before.bottles.keys():
        raise NoPlaceError("other things would change with it")
    if digest_of(dict(after.agents)) != digest_of(dict(before.agents)):
        raise NoPlaceError("other things would change with it")
    for name, was in before.bottles.items():
        now = after.bottles[name]
        if digest_of(was._replace(egress=BottleEgress())) != digest_of(now._replace(egress=BottleEgress())):
            raise NoPlaceError("other things would change with it")
        new = _more(was, now)
        if new is None or new not in ([], [route._replace(origin="")]):
            raise NoPlaceError(f"other routes of the bottle {name} would change with it")
        if bool(new) != (name == bottle) and not (new and _extends(before, name, bottle)):
            raise NoPlaceError(f"the bottle {name} would change with it")


def _more(was: Bottle, now: Bottle) -> list[Route] | None:
    """Which routes there are more, Claude's own counted in; None where one is gone."""
    counted = [
        Counter(route._replace(origin="") for route in claude.routes(None, bottle.egress.routes))
        for bottle in (was, now)
    ]
    return None if counted[0] - counted[1] else list((counted[1] - counted[0]).elements())


def _extends(manifest: Manifest, name: str, parent: str) -> bool:
    parents = {title: bottle.extends for title, bottle in manifest.bottles.items()}
    return parent in ancestry(name, parents)


def _mirror(root: Path, folder: Path, changed: Path, text: str) -> None:
    """The manifest's files of a home, one of them with another content."""
    files = [root / JSON_FILE, *(root / "bottles").glob("*.md"), *(root / "agents").glob("*.md")]
    for file in files:
        if file.is_file():
            target = folder / file.relative_to(root)
            target.parent.mkdir(exist_ok=True)
            same = Path(os.path.realpath(file)) == changed
            target.write_bytes(text.encode() if same else file.read_bytes())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _difference(path: Path, before: str, after: str) -> tuple[str, ...]:
    names = (str(path), f"{path} (new)")
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")
    return tuple(found)


def _write(path: Path, before: str, text: str) -> None:
    if digest_of_file(str(path)) != _digest(before):
        raise BottleError("somebody has changed it meanwhile")
    mode = stat.S_IMODE(path.stat().st_mode)
    store.write_atomically(path, text)
    path.chmod(mode)
