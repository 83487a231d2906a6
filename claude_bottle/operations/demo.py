"""The tour: the real Claude Code binary in a real bottle, in a home of its own that is gone afterwards.

Invariant: it ends well only when every expectation of the script was met, the work came back, and the key was
seen by the API and by nobody inside.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_bottle.errors import BackendMissingError, BottleError
from claude_bottle.operations import decisions, handover, tour
from claude_bottle.operations.context import Context
from claude_bottle.operations.headless import Answer, ask_claude
from claude_bottle.operations.launch import Launched
from claude_bottle.operations.settle import settle
from claude_bottle.proc import find_program
from claude_bottle.scripted.parse import load_script, parse_script
from claude_bottle.scripted.script import Script
from claude_bottle.scripted.server import ScriptedModel
from claude_bottle.state.paths import Home, open_home

_RUN_SECONDS = 300.0
_KEEP = ("PATH", "HOME", "LANG", "TMPDIR", "CLAUDE_BOTTLE_CLAUDE", "CLAUDE_BOTTLE_ENVOY", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of the agent, and what came back."""

    text: str
    result: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the tour takes place: a home, a repository and, unless it is live, a model of its own."""

    context: Context
    key: str
    model: ScriptedModel | None
    built_in: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the report shows. `problems` is empty when, and only when, the tour went as promised."""

    answer: Answer
    calls: tuple[Call, ...]
    attempts: tuple[tour.Attempt, ...]
    decisions: tuple[dict[str, Any], ...]
    work: handover.Work
    diff: bytes
    problems: tuple[str, ...]


@contextmanager
def set_stage(context: Context, *, live: bool, script_file: Path | None) -> Iterator[Stage]:
    """A throw-away home and repository, and the scripted model on loopback. Raises BottleError."""
    if find_program("curl") is None:
        raise BackendMissingError("the tour's attempts need curl", "install it: sudo apt-get install curl")
    key = f"demo-key-{secrets.token_hex(12)}"
    folder = Path(tempfile.mkdtemp(prefix="claude-bottle-demo-"))
    try:
        home = open_home(Home(folder / "home"))
        tour.make_repository(context.runner, folder / "repository")
        with _model(live, script_file, key) as model:
            url = model.url if model is not None else None
            (home.root / "claude-bottle.json").write_text(json.dumps(tour.manifest(url)))
            environment = dict(context.environment)
            if not live:
                environment = {name: environment[name] for name in _KEEP if name in environment}
                environment["ANTHROPIC_API_KEY"] = key
            staged = context._replace(home=home, environment=environment, folder=folder / "repository")
            yield Stage(staged, key, model, built_in=script_file is None and not live)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _model(live: bool, script_file: Path | None, key: str) -> AbstractContextManager[ScriptedModel | None]:
    if live:
        return nullcontext()
    return ScriptedModel(_script(script_file, key))


def _script(script_file: Path | None, key: str) -> Script:
    if script_file is not None:
        return load_script(script_file)
    return parse_script(tour.script(Path.home(), key), "the tour's script")


def play(stage: Stage, launched: Launched, said: Callable[[str], None]) -> Outcome:
    """Lets the agent do its work, then ends the bottle and gathers what the report needs."""
    said("the agent works")
    context = stage.context
    answer = None
    try:
        answer = ask_claude(
            context.runner, launched.bottle, launched.claude_arguments, tour.PROMPT, _RUN_SECONDS
        )
    finally:
        # The state is kept until the report has been made from it; the stage removes everything.
        settled = settle(context, launched.metadata, launched.bottle, keep=True)
    diff = handover.difference(context.runner, launched.metadata, settled.work) if settled.work.refs else b""
    calls = tuple(_calls(stage.model)) if stage.model is not None else ()
    problems = [*settled.problems, *_problems(stage, answer, settled.work)]
    return Outcome(
        answer=answer,
        calls=calls,
        attempts=tour.attempts(Path.home()) if stage.built_in else (),
        decisions=tuple(decisions.read(launched.paths.decisions)),
        work=settled.work,
        diff=diff,
        problems=tuple(problems),
    )


def _problems(stage: Stage, answer: Answer, work: handover.Work) -> Iterator[str]:
    if answer.status != 0:
        yield f"claude ended with status {answer.status}: {answer.complaint or answer.text}"
    model = stage.model
    if model is None:
        return
    yield from model.failures
    if not model.finished:
        yield "the script was not played to its end"
    if stage.built_in and not work.refs:
        yield "no work came back"
    if any(stage.key in repr(request.body) for request in model.requests):
        yield "the key was seen inside the bottle"
    if not any(request.headers.get("x-api-key") == stage.key for request in model.requests):
        yield "the API never saw the key"


def _calls(model: ScriptedModel) -> Iterator[Call]:
    """Tool calls and their results, from the longest conversation that the model was sent."""
    bodies = [request.body for request in model.requests if isinstance(request.body, Mapping)]
    conversations = [_items(body.get("messages")) for body in bodies]
    longest = max(conversations, key=len, default=[])
    blocks = [block for message in longest for block in _items(message.get("content"))]
    answers = (block for block in blocks if block.get("type") == "tool_result")
    results = {block.get("tool_use_id"): _text(block.get("content")) for block in answers}
    for block in blocks:
        if block.get("type") == "tool_use":
            given = block.get("input", {})
            text = given.get("command") or " ".join(str(value) for value in given.values())
            yield Call(str(text), results.get(block.get("id"), ""))


def _items(value: object) -> list[Mapping[str, Any]]:
    """The mappings of a JSON list; anything else holds none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [item for item in value if isinstance(item, Mapping)]


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", "")) for block in _items(content))


def require_success(outcome: Outcome) -> None:
    """Raises BottleError with everything that did not go as promised."""
    if outcome.problems:
        raise BottleError("the tour did not go as promised:\n" + "\n".join(outcome.problems))
