"""What is kept of a bottle beyond its life: transcript, decisions, proposals and its sidecars' words, in
`archive/SLUG`.

Invariant: what is kept is never replaced by half of something, and what could not be taken is told.
"""

from __future__ import annotations

import os
from pathlib import Path

from claude_bottle.backend import load_backend
from claude_bottle.errors import BottleError
from claude_bottle.operations.context import Context
from claude_bottle.state.harvest import copy_file
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths, Home, is_slug

TRANSCRIPT = "transcript"  # the folder in the archive; below it as below Claude Code's own
_LOG_BYTES = 256 << 20


def log_files(paths: BottlePaths) -> dict[str, Path]:
    """By their names in the archive: where the logs of a bottle are that runs or is preserved."""
    sockets = paths.run / "egress"
    return {
        "decisions.jsonl": paths.decisions,
        "decisions.jsonl.1": paths.decisions.with_name(f"{paths.decisions.name}.1"),
        "proposals.json": paths.proposals,
        "bundle.log": paths.logs / "bundle.log",
        "envoy.log": sockets / "envoy.log",
        "envoy-access.log": sockets / "envoy-access.log",
    }


def keep(context: Context, metadata: Metadata, paths: BottlePaths) -> list[str]:
    """Copies all of it, of a bottle that runs or has ended. Returns what could not be kept, a line each."""
    return [*keep_transcript(context, metadata, paths), *_keep_logs(context, metadata, paths)]


def keep_transcript(context: Context, metadata: Metadata, paths: BottlePaths) -> list[str]:
    target = context.home.archive(metadata.slug) / TRANSCRIPT
    try:
        words = load_backend(metadata.backend).take_session(metadata, paths, target).words("the transcript")
    except (BottleError, OSError) as error:
        return [f"the transcript was not kept: {said(error)}"]
    return [words] if words else []


def _keep_logs(context: Context, metadata: Metadata, paths: BottlePaths) -> list[str]:
    target, problems = context.home.archive(metadata.slug), []
    try:
        load_backend(metadata.backend).gather_logs(metadata, paths)
    except (BottleError, OSError) as error:
        problems.append(f"the logs were not gathered: {said(error)}")
    for name, source in log_files(paths).items():
        try:
            if not copy_file(source, target / name, _LOG_BYTES):
                problems.append(f"{name} was not kept: it is no plain file of at most 256 MiB")
        except OSError as error:
            problems.append(f"{name} was not kept: {said(error)}")
    return problems


def said(error: BottleError | OSError) -> str:
    """The error on one line, without the interpreter's own numbers."""
    if isinstance(error, BottleError):
        return error.message
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def slugs(home: Home) -> list[str]:
    """Of which anything was kept."""
    try:
        return sorted(name for name in os.listdir(home.root / "archive") if is_slug(name))
    except OSError:
        return []
