"""Most operators are not root: the same proofs, run by a user without any privilege."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.support.as_user import CannotBe, OrdinaryUser, ordinary_user

pytestmark = pytest.mark.needs("root", "bubblewrap", "envoy", "claude")

# What is another thing without privileges: identities, groups of the kernel, mounts, who may read what.
SUITES = [
    ("tests/contract/test_backend_contract.py", "", 35),
    ("tests/escape/test_files.py", "", 10),
    ("tests/escape/test_kernel.py", "", 50),
    ("tests/escape/test_secrets.py", "", 3),
    ("tests/escape/test_survival.py", "", 4),
    ("tests/integration/bubblewrap/test_relaunch.py", "agent or written or hole", 4),
]


@pytest.fixture(scope="module")
def user() -> Iterator[OrdinaryUser]:
    try:
        with ordinary_user() as found:
            yield found
    except CannotBe as error:
        pytest.skip(f"needs an ordinary user that can run the tests: {error}")


def test_he_is_nobody_special(user: OrdinaryUser) -> None:
    assert user.run("id", "-u").stdout.strip() not in ("0", str(os.getuid()))
    assert user.run("cat", "/etc/shadow").returncode != 0


@pytest.mark.parametrize(("suite", "chosen", "at_least"), SUITES, ids=[suite[0] for suite in SUITES])
def test_the_proofs_hold_for_an_ordinary_user(
    user: OrdinaryUser, suite: str, chosen: str, at_least: int
) -> None:
    done = user.pytest(suite, "-k", chosen)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= at_least, done.stdout[-1000:]
