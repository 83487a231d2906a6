"""What can be added to an image is what it looks like, and nothing but packages and RUN."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.policy.additions import (
    Additions,
    additions_from_json,
    additions_to_json,
    caveats,
    check_additions,
)


@pytest.mark.parametrize(
    "lines",
    [
        "RUN echo hi",
        "run echo hi",
        "RUN echo a && \\\n    FROM evil\nRUN b",
        "# a comment\nRUN a \\\n# within\n  b\n\nRUN c",
        'RUN ["/bin/echo", "hi"]',
        "RUN\ttrue",
    ],
)
def test_run_may_be_added(lines: str) -> None:
    check_additions(Additions(dockerfile=lines))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("FROM evil", "only RUN"),
        ("RUN a\nFROM evil", "only RUN"),
        ("RUN a\\\n\nFROM evil\nCOPY --from=evil / /", "only RUN"),
        ("COPY a b", "only RUN"),
        ("ADD http://evil.example/x /", "only RUN"),
        ("ENV LD_PRELOAD=/x", "only RUN"),
        ("USER node", "only RUN"),
        ("ENTRYPOINT x", "only RUN"),
        ("ONBUILD RUN x", "only RUN"),
        ("RUN --mount=type=bind,target=/x cat /x", "options"),
        ("RUN \\\n  --network=host x", "options"),
        ("RUN --security=insecure x", "options"),
        ("RUN cat <<EOF\nFROM evil\nEOF", "here-document"),
        ("RUN a \\", "not whole"),
        ("RUN", "without a command"),
        ("R\u200bUN x", "cannot be seen"),
        ("RUN echo \u202e", "cannot be seen"),
        ("RUN a\rFROM evil", "cannot be seen"),
        ("RUN a\x85FROM evil", "cannot be seen"),
        ("RUN a" + "b" * 16_000, "more than"),
    ],
)
def test_nothing_else_may(lines: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_additions(Additions(dockerfile=lines))


@pytest.mark.parametrize("name", ["", "-y", "a b", "a;b", "$(x)", "../x", "A", "x" * 300, "a\n"])
def test_a_package_is_named_as_debian_names_it(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        check_additions(Additions((name,)))


def test_what_comes_later_is_added_once() -> None:
    first = Additions(("jq",), "RUN a")
    both = first.plus(Additions(("jq", "tree=1.0"), "RUN b\n"))
    assert both == Additions(("jq", "tree=1.0"), "RUN a\nRUN b")
    assert both.plus(Additions(("jq",), "RUN b")) == both
    assert both.without(first) == Additions(("tree=1.0",), "RUN b")
    assert not both.without(both)
    assert both.plus(Additions(dockerfile="RUN")).dockerfile.endswith("RUN b\nRUN"), "a part is not the whole"


names = st.sampled_from(["jq", "tree", "gcc=1:2", "g++"])
some = st.builds(
    Additions,
    st.lists(names, unique=True).map(tuple),
    st.lists(st.sampled_from(["RUN a", "RUN b \\\n c", "# note"]), unique=True).map("\n".join),
)


@given(some, some)
def test_with_and_without(first: Additions, second: Additions) -> None:
    both = first.plus(second)
    assert check_additions(both) == both
    assert set(both.packages) == {*first.packages, *second.packages}
    assert both.plus(second) == both
    assert first.plus(both.without(first)) == both
    assert additions_from_json(additions_to_json(both)) == both


@pytest.mark.parametrize("obj", [None, {}, {"packages": ["a b"], "dockerfile": ""}, {"packages": "a"}])
def test_what_is_read_is_checked(obj: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        additions_from_json(obj)


def test_an_operator_is_told_what_run_may_do() -> None:
    assert any("the engine's network" in line for line in caveats(Additions(dockerfile="RUN x")))
    assert not any("RUN" in line for line in caveats(Additions(("jq",))))
