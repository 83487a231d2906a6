"""What a launch is told in confidence is not shown where somebody prints it."""

from __future__ import annotations

import pytest

from claude_bottle.backend.base import BundlePlan, Secrets
from claude_bottle.policy.model import Policy
from claude_bottle.sidecars.bundle_spec import BundleSpec
from claude_bottle.sidecars.egress.certs import CertAndKey

SECRET = "sk-ant-do-not-show"
LEAVES = {"api.example.org": CertAndKey("a certificate", SECRET)}
CREDENTIALS = {"env:KEY": SECRET}


@pytest.mark.parametrize(
    "confidential",
    [
        pytest.param(Secrets({"KEY": SECRET}), id="secrets"),
        pytest.param(BundlePlan(LEAVES, CREDENTIALS), id="bundle-plan"),
        pytest.param(
            BundleSpec(
                Policy(()),
                LEAVES,
                CREDENTIALS,
                ("envoy",),
                None,
                "authorities.pem",
                "decisions.jsonl",
                "services",
            ),
            id="bundle-spec",
        ),
        pytest.param(LEAVES["api.example.org"], id="certificate"),
    ],
)
def test_no_secret_is_shown(confidential: object) -> None:
    assert SECRET in str([*confidential])  # type: ignore[misc]
    for text in (repr(confidential), str(confidential), f"{confidential}", str([confidential])):
        assert SECRET not in text


def test_without_secrets_there_are_none_to_share() -> None:
    with pytest.raises(TypeError):
        Secrets().environment["KEY"] = SECRET  # type: ignore[index]
    assert not Secrets().environment
