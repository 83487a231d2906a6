"""Small manifests, and what is said of those that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.manifest.model import Manifest
from claude_bottle.manifest.parse import ManifestError


def lines(obj: object) -> list[str]:
    with pytest.raises(ManifestError) as refused:
        Manifest.from_json_obj(obj)
    assert isinstance(refused.value, BottleError)
    assert refused.value.exit_code == 2
    texts = [str(problem) for problem in refused.value.problems]
    assert str(refused.value) == "\n".join(texts)
    return texts


def bottle(**keys: object) -> dict[str, Any]:
    return {"bottles": {"dev": keys}}


def route(**keys: object) -> dict[str, Any]:
    return bottle(egress={"routes": [{"host": "a.example", **keys}]})
