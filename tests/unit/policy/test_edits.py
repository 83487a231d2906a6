"""Edits of a live policy: what is not named stays, what is widened is refused, no bound is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.policy.edits import EditError, added, change, refuse_widening, removed, rewritten
from claude_bottle.policy.live import UNBOUNDED, Bounds, LivePolicy, LiveRoute, in_force
from claude_bottle.policy.model import Route, Upstream

OWN = LiveRoute(Route("api.example.org", methods=("POST",), origin="claude-bottle"))
WRITTEN = LiveRoute(Route("docs.example.org", paths=("/v1",), origin="dev.md:7"))
HOST = LiveRoute(Route("bare.example.org", origin="dev.md:9"))
TIMED = LiveRoute(Route("timed.example.org", origin="p-1"), Bounds(1000.0), "d-1")
COUNTED = LiveRoute(Route("counted.example.org", origin="p-2"), Bounds(None, 3), "d-2")
POLICY = LivePolicy((OWN, WRITTEN, HOST, TIMED, COUNTED), 7)


def test_what_is_added_has_its_bounds_and_its_decision() -> None:
    after = added(POLICY, [Route("new.example.org")], Bounds(50.0), "d-9")
    assert change(POLICY, after).new == (LiveRoute(Route("new.example.org"), Bounds(50.0), "d-9"),)
    assert change(POLICY, after).gone == ()
    assert after.version == 8


def test_what_counts_uses_stands_last() -> None:
    after = added(POLICY, [COUNTED.route], UNBOUNDED, "d-9")
    assert after.routes[-1] == COUNTED
    assert in_force(after, 0).routes.index(COUNTED.route._replace(origin="p-2")) < len(after.routes) - 1


def test_what_is_there_already_is_not_added() -> None:
    again = WRITTEN.route._replace(origin="routes add")
    assert added(POLICY, [again], UNBOUNDED, "d-9") is POLICY
    assert added(POLICY, [again], Bounds(50.0), "d-9") is POLICY  # more than is asked for
    assert added(POLICY, [TIMED.route], UNBOUNDED, "d-9") is not POLICY
    assert added(POLICY, [TIMED.route], Bounds(2000.0), "d-9") is not POLICY


def test_what_is_removed_is_gone_and_nothing_else() -> None:
    after = removed(POLICY, [TIMED])
    assert change(POLICY, after) == ((TIMED,), ())
    assert after.version == 8
    assert removed(POLICY, []) is POLICY


def test_written_as_it_was_everything_stays_what_it_is() -> None:
    shown = (WRITTEN, HOST, TIMED, COUNTED)
    again = [item.route._replace(origin="file:1") for item in shown]
    assert rewritten(POLICY, shown, again, "d-9") is POLICY
    assert rewritten(POLICY, shown, reversed(again), "d-9") is POLICY  # the order says nothing


def test_uses_that_were_taken_while_the_editor_was_open_are_not_given_back() -> None:
    later = POLICY._replace(routes=(*POLICY.routes[:4], COUNTED._replace(bounds=Bounds(None, 1))))
    shown = (WRITTEN, HOST, TIMED, COUNTED)
    after = rewritten(later, shown, [WRITTEN.route, COUNTED.route], "d-9")
    assert {item.route.host: item.bounds for item in after.routes}["counted.example.org"] == Bounds(None, 1)
    narrowed = COUNTED.route._replace(methods=("GET",))
    after = rewritten(later, shown, [narrowed], "d-9")
    assert after.routes[-1] == LiveRoute(narrowed, Bounds(None, 1), "d-9")


def test_a_rule_in_the_place_of_a_bounded_one_keeps_its_bounds() -> None:
    wider = TIMED.route._replace(ports=(443, 8443), origin="routes edit")
    after = rewritten(POLICY, (TIMED,), [wider], "d-9")
    assert change(POLICY, after) == ((TIMED,), (LiveRoute(wider, TIMED.bounds, "d-9"),))


def test_what_has_ended_meanwhile_does_not_come_back() -> None:
    later = POLICY._replace(routes=POLICY.routes[:3])
    after = rewritten(later, (WRITTEN, TIMED), [WRITTEN.route], "d-9")
    assert after is later


def test_what_was_not_shown_is_not_touched() -> None:
    after = rewritten(POLICY, (HOST,), [], "d-9")
    assert change(POLICY, after) == ((HOST,), ())


def test_no_rule_sends_a_connection_another_way_than_one_that_stands() -> None:
    for other in (
        WRITTEN.route._replace(inspect=False, paths=()),
        WRITTEN.route._replace(upstream=Upstream("http", "127.0.0.1", 80)),
        WRITTEN.route._replace(ports=(8443, 443), upstream=Upstream("http", "127.0.0.1", 80)),
    ):
        with pytest.raises(EditError, match=r"docs\.example\.org: another route"):
            added(POLICY, [other], UNBOUNDED, "d-9")
    elsewhere = WRITTEN.route._replace(ports=(8443,), inspect=False, paths=())
    assert added(POLICY, [elsewhere], UNBOUNDED, "d-9").version == 8


def test_an_edit_elsewhere_is_not_stopped_by_a_clash_that_is_there() -> None:
    clash = LivePolicy((HOST, LiveRoute(HOST.route._replace(inspect=False), UNBOUNDED, "d-1")), 1)
    assert added(clash, [WRITTEN.route], UNBOUNDED, "d-9").version == 2


def test_a_short_form_widens_no_rule() -> None:
    with pytest.raises(EditError, match="docs"):
        refuse_widening(POLICY, [Route("docs.example.org")])
    refuse_widening(POLICY, [Route("bare.example.org"), Route("new.example.org")])


ROUTES = st.builds(
    Route,
    host=st.sampled_from(["a.example", "b.example", "*.c.example"]),
    ports=st.sampled_from([(443,), (8443,), (443, 8443)]),
    methods=st.sampled_from([(), ("GET",)]),
    paths=st.just(()),
    auth=st.none(),
    inspect=st.just(True),
    upstream=st.none(),
    detectors=st.just(()),
    origin=st.just(""),
)
ITEMS = st.builds(
    LiveRoute,
    ROUTES,
    st.builds(Bounds, st.sampled_from([None, 5.0]), st.sampled_from([None, 2])),
    st.just("d-1"),
)


@given(st.lists(ITEMS, max_size=6), st.data())
def test_whatever_is_written_is_what_may_be_reached(items: list[LiveRoute], data: st.DataObject) -> None:
    policy = LivePolicy(tuple(items), 3)
    shown = data.draw(st.lists(st.sampled_from(items), unique_by=id)) if items else []
    routes = data.draw(st.lists(ROUTES, max_size=4))
    after = rewritten(policy, shown, routes, "d-9")
    untouched = [item for item in items if not any(item is each for each in shown)]
    reached = sorted(item.route for item in after.routes)
    assert reached == sorted([*(item.route for item in untouched), *routes])
    unbounded = [item.route for item in items if item.bounds == UNBOUNDED]
    for item in after.routes:  # no host that only had bounds has none now, but for those that are new
        if item.bounds == UNBOUNDED and item.route not in unbounded:
            assert item.grant == "d-9"
