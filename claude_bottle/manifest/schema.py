"""The JSON Schema of claude-bottle.json, from the tables that the parser uses.

`python -m claude_bottle.manifest.schema` prints it. Invariant: the schema refuses nothing that
the parser takes; the parser is stricter where a schema cannot say it.
"""

from __future__ import annotations

import json
import sys

from claude_bottle.manifest import tables
from claude_bottle.manifest.fields import Schema, map_of
from claude_bottle.manifest.values import name


def manifest_schema() -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "claude-bottle manifest",
        "description": "Bottles (what an agent may reach) and agents (who runs in them).",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "$schema": {"type": "string"},
            "bottles": map_of(name(), tables.bottle()).schema,
            "agents": map_of(name(), tables.agent()).schema,
        },
    }


def schema_text() -> str:
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
