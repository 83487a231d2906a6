"""The published schema is the parser's own."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.manifest.model import Manifest
from claude_bottle.manifest.parse import ManifestError
from claude_bottle.manifest.schema import manifest_schema, schema_text

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE: dict[str, Any] = {
    "bottles": {
        "dev": {
            "extends": ["base"],
            "env": {"A": "${B}"},
            "egress": {
                "routes": [
                    {
                        "host": "a.example",
                        "auth": {"scheme": "header:X-Key", "secret": {"command": ["pass", "x"]}},
                    },
                    {"host": "*.b.example", "ports": [22], "inspect": False},
                    {"host": "c.example", "auth": {"scheme": "bearer", "secret": "env:TOKEN"}},
                ],
                "allowlist": ["files.example.org"],
            },
            "ssh": [{"Host": "box", "IdentityFile": "~/.ssh/id", "Port": 22}],
            "git": {"repos": {"app": {"url": "git@github.com:me/app.git", "refs": ["refs/heads/agent/*"]}}},
            "workspace": "none",
            "limits": {"memory": "4G", "cpus": 2, "wall_time": "90s"},
        },
        "base": {},
    },
    "agents": {"a": {"bottle": "dev", "tools": ["Read"]}, "b": {"bottle": ["dev", "base"], "tools": "Read"}},
}


def test_the_published_file_is_current() -> None:
    published = (ROOT / "schema/manifest.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), (
        "run: python -m claude_bottle.manifest.schema > schema/manifest.schema.json"
    )


def test_the_module_prints_it() -> None:
    argv = [sys.executable, "-m", "claude_bottle.manifest.schema"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == schema_text()


def test_every_object_is_closed_or_names_its_values() -> None:
    def walk(schema: object) -> None:
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                assert "additionalProperties" in schema
            for inner in schema.values():
                walk(inner)
        elif isinstance(schema, list):
            for inner in schema:
                walk(inner)

    walk(manifest_schema())


def test_schema_and_parser_take_the_example_and_refuse_the_same_mistakes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    validator.validate(EXAMPLE)
    Manifest.from_json_obj(EXAMPLE)
    mistakes: list[tuple[tuple[str | int, ...], object]] = [
        (("botles",), {}),
        (("bottles", "Dev"), {}),
        (("bottles", "dev", "enw"), {}),
        (("bottles", "dev", "extends"), []),
        (("bottles", "dev", "workspace"), "clown"),
        (("bottles", "dev", "supervise"), "yes"),
        (("bottles", "dev", "supervise"), {"unanswered": "maybe"}),
        (("bottles", "dev", "supervise"), {"notify": []}),
        (("bottles", "dev", "env", "A B"), "x"),
        (("bottles", "dev", "env", "A"), 1),
        (("bottles", "dev", "limits", "memory"), "512"),
        (("bottles", "dev", "limits", "cpus"), True),
        (("bottles", "dev", "limits", "wall_time"), "1d"),
        (("bottles", "dev", "egress", "routes", 0, "hots"), "x"),
        (("bottles", "dev", "egress", "routes", 0, "ports"), [0]),
        (("bottles", "dev", "egress", "routes", 0, "methods"), ["get"]),
        (("bottles", "dev", "egress", "routes", 0, "detectors"), ["x"]),
        (("bottles", "dev", "egress", "routes", 0, "auth", "secret"), "s3cr3t"),
        (("bottles", "dev", "egress", "routes", 0, "auth", "secret"), {"command": []}),
        (("bottles", "dev", "ssh", 0, "Host"), "*"),
        (("bottles", "dev", "git", "repos", "app", "refs"), ["main"]),
        (("agents", "a", "skills"), ["../x"]),
        (("agents", "a", "bottle"), None),
    ]
    for path, value in mistakes:
        obj = copy.deepcopy(EXAMPLE)
        target: Any = obj
        for part in path[:-1]:
            target = target[part]
        target[path[-1]] = value
        assert not validator.is_valid(obj), path
        with pytest.raises(ManifestError):
            Manifest.from_json_obj(obj)
