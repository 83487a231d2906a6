"""The first manifest of a new user: one bottle that reaches the API only, one agent in it."""

from __future__ import annotations

from pathlib import Path

from claude_bottle.operations.context import Context

_FILES = {
    "bottles/dev.md": """---
# What an agent in this bottle may reach. Without a route: Claude's own API and nothing else.
egress:
  allowlist: []
  # - docs.python.org
  # - "*.githubusercontent.com"
  # routes:
  # - host: api.github.com
  #   methods: [GET]
  #   paths: [/repos/]
  #   auth: {scheme: token, secret: "env:GITHUB_TOKEN"}   # added outside; the agent never sees it
# limits: {memory: 8G, cpus: 4}
---
The bottle for everyday work.
""",
    "agents/developer.md": """---
bottle: dev
description: Works on the repository that you start it in.
---
You work in a bottle: an isolated environment with full permissions inside and little reach outside.
The repository is in ~/workspace, on a branch of its own. Commit what you want to hand over.
""",
}


def write_first_manifest(context: Context) -> tuple[list[Path], list[Path]]:
    """(written, kept)"""
    written, kept = [], []
    for name, text in _FILES.items():
        path = context.home.root / name
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            kept.append(path)
        else:
            written.append(path)
    return written, kept
