"""The order in which a running bottle is changed, whoever asks for it and whatever kills them.

    lock -> look -> plan (pure) -> the decision's line in the audit log -> change -> the outcome's line

Invariant: what takes effect was audited before. Theory: the decision's word is on the disk (`state/intent`)
from before its line until after its outcome. A process that is killed in between leaves the word; the next
one asks the bundle whether that change took effect and writes the outcome, so that in the end every decision
has one. A change that was sent but not read yet when its sender died could still come true after that
question. So a "no" is made final first: each change says which version it expects, and a new version of the
same policy makes the old expectation void.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_bottle.backend import load_backend
from claude_bottle.errors import BottleError, UsageError
from claude_bottle.operations.context import Context
from claude_bottle.policy.live import LivePolicy, in_force, live_from_json, live_to_json
from claude_bottle.policy.model import Policy
from claude_bottle.policy.proposals import Answer, Queue
from claude_bottle.policy.proposals_json import answer_to_json, queue_from_json
from claude_bottle.policy.snapshot import PolicyFormatError
from claude_bottle.state import audit, store
from claude_bottle.state.intent import Intent, deciding, is_open

if TYPE_CHECKING:
    from claude_bottle.backend.base import Bottle
    from claude_bottle.state.metadata import Metadata

DECISION, EDIT, OUTCOME = "decision", "edit", "outcome"  # kinds of lines
APPLIED, FAILED, VOID, ENDED = "applied", "failed", "void", "ended"
WRITTEN, NOT_WRITTEN = "written", "not written"
_FILE = ("path", "before", "after")
_ATTEMPTS = 5
_CHANGE_SECONDS = 20.0  # Envoy may have to open a listener for a new host
_DETAIL = 300


class Seen(NamedTuple):
    """A bottle as its bundle has it now; `now` is the bundle's clock, which its bounds are judged by."""

    live: LivePolicy
    queue: Queue
    now: float


class Change(NamedTuple):
    """What a plan wants. `live` needs no version: it becomes the next one. `told` is for the audit log."""

    live: LivePolicy | None
    told: Mapping[str, object]
    answers: tuple[tuple[str, Answer], ...] = ()  # by the proposal's id


class Done(NamedTuple):
    """A change that took effect; `closed` connections were of what is no longer allowed."""

    decision: str
    before: LivePolicy
    after: LivePolicy
    closed: int
    now: float  # the bundle's clock


Plan = Callable[
    [Seen, str], Change
]  # pure; the text is the decision's word. Raises BottleError to change nothing
Step = Callable[[str], None]


class Finish(NamedTuple):
    """What belongs to a decision outside the bottle: a file that is written when the bottle has changed.

    It is named in the decision's line, so that whoever comes after a kill can tell whether it was written.
    """

    path: str
    before: str  # digests of the contents
    after: str
    write: Callable[[], None]  # raises BottleError or OSError


class OutdatedError(BottleError):
    """The bottle was changed by somebody else meanwhile."""


def running(context: Context, slug: str) -> tuple[Bottle, Metadata]:
    """Raises NotFoundError with the nearest slug, UsageError for a bottle that has ended."""
    metadata = store.load(context.home, slug)
    bottle = load_backend(metadata.backend).find(metadata, context.home.bottle(slug))
    if bottle is None:
        raise UsageError(f"{slug} is not running", f"claude-bottle resume {slug}")
    return bottle, metadata


def look(bottle: Bottle, timeout: float = 5.0) -> Seen:
    """Raises BottleError."""
    said = bottle.control({"op": "look"}, timeout)
    try:
        _expect_ok(bottle, said)
        now = said["in_force_at"]
        if isinstance(now, bool) or not isinstance(now, int | float) or not 0 < now < 1e12:
            raise PolicyFormatError("in_force_at: not a time")
        return Seen(live_from_json(said["live"]), queue_from_json(said["proposals"]), float(now))
    except (KeyError, PolicyFormatError) as error:
        raise BottleError(f"the sidecars of {bottle.slug} said what cannot be understood: {error}") from error


def carry_out(
    context: Context,
    slug: str,
    kind: str,
    plan: Plan,
    *,
    finish: Finish | None = None,
    step: Step = lambda _: None,
) -> Done:
    """Changes a running bottle. `kind` is DECISION or EDIT. `finish` is done right after it.

    Where somebody else's change comes between, the plan is asked anew. Raises BottleError: of the plan, or
    where the change was refused; then nothing is changed, but for one whose outcome cannot be known now,
    which says so. `step` is told of each step that is done.
    """
    bottle, metadata = running(context, slug)
    with store.explained(context.home), deciding(context.home.bottle(slug)) as intent:
        step("locked")
        _recover(context, metadata, bottle, intent)
        for _ in range(_ATTEMPTS):
            try:
                return _Act(context, metadata, bottle, intent, step).carry_out(kind, plan, finish)
            except OutdatedError as error:
                outdated = error
        raise outdated


def recover(context: Context, slug: str, bottle: Bottle | None, *, wait: bool = True) -> None:
    """Gives an outcome to a decision that lost its process. `bottle` is None for one that has ended.

    Waits for one that is under way, or raises BlockingIOError. Raises BottleError, where the bottle does not
    say.
    """
    paths = context.home.bottle(slug)
    if is_open(paths):
        with store.explained(context.home), deciding(paths, wait=wait) as intent:
            _recover(context, store.load(context.home, slug), bottle, intent)


def _recover(context: Context, metadata: Metadata, bottle: Bottle | None, intent: Intent) -> None:
    found = intent.open
    if found is None:
        return
    since = datetime.fromisoformat(f"{found.day}T00:00:00+00:00")
    lines = [line for line in audit.read(context.home, since) if line.get("decision") == found.word]
    if lines and not any(line["kind"] == OUTCOME for line in lines):
        state = ENDED if bottle is None else APPLIED if _has_applied(bottle, found.word) else VOID
        data = {"decision": found.word, "state": state, "recovered": True, **_file_of(lines[0])}
        audit.append(context.home, OUTCOME, slug=metadata.slug, agent=metadata.agent, data=data)
    intent.end()


def _file_of(line: Mapping[str, Any]) -> dict[str, object]:
    """Whether the file that belongs to a decision was written."""
    file = line.get("file")
    if not isinstance(file, dict):
        return {}
    return {"file": WRITTEN if digest_of_file(str(file.get("path"))) == file.get("after") else NOT_WRITTEN}


def digest_of_file(path: str) -> str:
    """Empty for one that cannot be read."""
    import hashlib

    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def _has_applied(bottle: Bottle, word: str) -> bool:
    """Whether it took effect; where not, it cannot any more. Raises BottleError."""
    for _ in range(_ATTEMPTS):
        said = bottle.control({"op": "applied", "decision": word})
        _expect_ok(bottle, said)
        if said.get("applied") is True:
            return True
        seen = look(bottle)
        same = _next(seen.live, seen.live)
        if _change(bottle, seen, same, (), {}, {}, f"void-{word}"[:64]).get("ok") is True:
            return False
    raise OutdatedError(f"{bottle.slug} keeps changing", "try again")


class _Act:
    """One attempt at one decision."""

    def __init__(
        self, context: Context, metadata: Metadata, bottle: Bottle, intent: Intent, step: Step
    ) -> None:
        self._context = context
        self._metadata = metadata
        self._bottle = bottle
        self._intent = intent
        self._step = step
        self._word = f"d-{os.urandom(5).hex()}"

    def carry_out(self, kind: str, plan: Plan, finish: Finish | None) -> Done:
        seen = look(self._bottle)
        self._step("looked")
        change = plan(seen, self._word)
        after = seen.live if change.live is None else _next(change.live, seen.live)
        leaves = _leaves(self._bottle, seen, after)
        credentials = _credentials(self._context, seen.live, after)
        self._step("planned")
        self._intent.begin(self._word, audit.utc_now().date())
        self._step("begun")
        file = {} if finish is None else {"file": dict(zip(_FILE, finish[:3], strict=True))}
        self._write(kind, {"version": seen.live.version, **change.told, **file})
        self._step("audited")
        wanted = None if change.live is None else after
        try:
            said = _change(self._bottle, seen, wanted, change.answers, leaves, credentials, self._word)
        except BottleError as error:
            raise self._lost(error) from error
        self._step("changed")
        if said.get("ok") is not True:
            raise self._refused(said)
        found = said.get("closed")
        closed = found if isinstance(found, int) else 0
        fault = self._finish(finish)
        outcome = {"state": APPLIED, "version": after.version, "closed": closed}
        if finish is not None:
            outcome["file"] = WRITTEN if fault is None else NOT_WRITTEN
        self._end(outcome)
        if fault is not None:
            raise fault
        return Done(self._word, seen.live, after, closed, seen.now)

    def _finish(self, finish: Finish | None) -> BottleError | None:
        if finish is None:
            return None
        try:
            finish.write()
        except (BottleError, OSError) as error:
            why = error.message if isinstance(error, BottleError) else error.strerror
            hint = "it holds until the bottle ends; put it into the file by hand"
            return BottleError(f"{self._word} took effect, but {finish.path} was not written: {why}", hint)
        self._step("finished")
        return None

    def _end(self, outcome: Mapping[str, object]) -> None:
        try:
            self._write(OUTCOME, outcome)
        except OSError as error:  # the word stays, so the next one writes it
            fault = (
                f"{self._word} took effect, but the audit log does not have its outcome yet: {error.strerror}"
            )
            raise BottleError(fault, "make room, then: claude-bottle proposals list") from error
        self._step("told")
        self._intent.end()

    def _write(self, kind: str, data: Mapping[str, object]) -> None:
        said = {"decision": self._word, **data}
        slug, agent = self._metadata.slug, self._metadata.agent
        audit.append(self._context.home, kind, slug=slug, agent=agent, data=said)

    def _refused(self, said: Mapping[str, Any]) -> BottleError:
        word, detail = str(said.get("error"))[:40], str(said.get("detail") or "")[:_DETAIL]
        self._write(OUTCOME, {"state": FAILED, "error": word, "detail": detail})
        self._intent.end()
        message = f"{self._bottle.slug} did not take the change: {detail or word}"
        return OutdatedError(message, "look again") if word == "conflict" else BottleError(message)

    def _lost(self, error: BottleError) -> BottleError:
        """No answer: perhaps it was carried out, perhaps not. The word stays until somebody knows."""
        try:
            _recover(self._context, self._metadata, self._bottle, self._intent)
        except BottleError:
            return BottleError(
                f"{error.message}; whether {self._word} took effect is not known yet",
                "claude-bottle proposals list tells it as soon as the bottle answers",
            )
        return BottleError(
            f"{error.message}; what became of {self._word} is in the audit log",
            f"claude-bottle audit show --agent {self._metadata.slug}",
        )


def _next(wanted: LivePolicy, before: LivePolicy) -> LivePolicy:
    return wanted._replace(version=before.version + 1)


def _change(
    bottle: Bottle,
    seen: Seen,
    after: LivePolicy | None,
    answers: tuple[tuple[str, Answer], ...],
    leaves: Mapping[str, list[str]],
    credentials: Mapping[str, str],
    word: str,
) -> dict[str, Any]:
    request = {
        "op": "change",
        "expect": seen.live.version,
        "live": None if after is None else live_to_json(after),
        "leaves": dict(leaves),
        "credentials": dict(credentials),
        "answers": [[ident, answer_to_json(said)] for ident, said in answers],
        "decision": word,
    }
    return bottle.control(request, _CHANGE_SECONDS)


def _leaves(bottle: Bottle, seen: Seen, after: LivePolicy) -> dict[str, list[str]]:
    """Certificates for hosts that are to be inspected and were not, signed in this process."""
    from claude_bottle.sidecars.egress.outlets import inspected_chains

    known = {chain.host for chain in inspected_chains(in_force(seen.live, seen.now))}
    wanted = {chain.host for chain in inspected_chains(_whole(after))} - known
    if not wanted:
        return {}
    from claude_bottle.sidecars.egress.certs import CertAndKey, make_leaves

    said = bottle.control({"op": "authority"})
    _expect_ok(bottle, said)
    cert, key = said.get("cert"), said.get("key")
    if not isinstance(cert, str) or not isinstance(key, str):
        raise BottleError(f"the sidecars of {bottle.slug} have no authority to sign for a new host")
    made = make_leaves(CertAndKey(cert, key), sorted(wanted))
    return {host: [leaf.cert_pem, leaf.key_pem] for host, leaf in made.items()}


def _credentials(context: Context, before: LivePolicy, after: LivePolicy) -> dict[str, str]:
    """Of secrets that a route names and none did before."""
    from claude_bottle.operations.credentials import read_credentials

    known = {item.route.auth.secret for item in before.routes if item.route.auth is not None}
    new = [
        item.route
        for item in after.routes
        if item.route.auth is not None and item.route.auth.secret not in known
    ]
    return read_credentials(context.runner, context.environment, new)


def _whole(policy: LivePolicy) -> Policy:
    return Policy(tuple(item.route for item in policy.routes), policy.version)


def _expect_ok(bottle: Bottle, said: Mapping[str, Any]) -> None:
    if said.get("ok") is not True:
        detail = str(said.get("detail") or said.get("error") or "no reason given")[:_DETAIL]
        raise BottleError(f"the sidecars of {bottle.slug} refuse to answer: {detail}")
