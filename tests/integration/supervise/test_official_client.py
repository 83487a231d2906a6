"""The official MCP client against the supervise sidecar: each agrees with the other on what MCP is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anyio
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from claude_bottle.policy.proposals import REJECTED, Answer
from claude_bottle.sidecars.supervise.connection import Limits
from tests.support.desks import NOW, Sidecar, serving
from tests.support.processes import eventually

ASK = {"host": "new.example.org", "justification": "why"}
SECONDS = 30.0


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    with serving(limits=Limits(beat_seconds=0.05)) as found:
        yield found


async def pending(sidecar: Sidecar) -> str:
    def asked() -> bool:
        return bool(sidecar.do(lambda: sidecar.desk.queue.pending))

    assert await asyncio.to_thread(eventually, asked)
    return sidecar.do(lambda: sidecar.desk.queue.pending[0].id)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_it_shakes_hands_lists_and_calls(sidecar: Sidecar, mode: str) -> None:
    async def scenario() -> None:
        async with Client(sidecar.url, mode=mode) as client:
            assert client.protocol_version == "2025-11-25"
            assert client.server_info.name == "claude-bottle"
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == [
                *(
                    "egress-block",
                    "pipelock-block",
                    "capability-block",
                    "list-egress-routes",
                    "check-proposal",
                )
            ]
            found = await client.call_tool("list-egress-routes", {})
            assert found.structured_content is not None
            assert [item["host"] for item in found.structured_content["routes"]] == ["known.example.org"]

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_a_call_waits_with_progress_and_is_answered(sidecar: Sidecar) -> None:
    async def scenario() -> None:
        heard: list[float] = []
        enough = asyncio.Event()

        async def progress(value: float, total: float | None, message: str | None) -> None:
            heard.append(value)
            if len(heard) >= 3:
                enough.set()

        async with Client(sidecar.url) as client:
            calling = asyncio.create_task(client.call_tool("egress-block", ASK, progress_callback=progress))
            ident = await pending(sidecar)
            await enough.wait()
            sidecar.do(lambda: sidecar.desk.approve(ident))
            found = await calling
            assert found.structured_content is not None
            assert (found.structured_content["state"], found.structured_content["id"]) == ("approved", ident)
            assert heard == sorted(set(heard))
            again = await client.call_tool("egress-block", ASK)
            assert again.structured_content is not None
            assert again.structured_content["state"] == "in-force"

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    (only,) = sidecar.desk.queue.proposals
    assert eventually(lambda: sidecar.desk.queue.proposals[0].told)
    assert only.times == 1


def test_a_call_that_is_cancelled_leaves_its_proposal_and_the_session(sidecar: Sidecar) -> None:
    async def scenario() -> None:
        async with Client(sidecar.url, mode="legacy") as client:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:

                    async def cancel() -> None:
                        await pending(sidecar)
                        scope.cancel()

                    group.start_soon(cancel)
                    await client.call_tool("egress-block", ASK)
            assert scope.cancelled_caught
            ident = await pending(sidecar)
            assert await asyncio.to_thread(eventually, lambda: not sidecar.server._calls)
            found = await client.call_tool("check-proposal", {"id": ident})
            assert found.structured_content is not None
            assert found.structured_content["state"] == "pending"

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_another_client_gets_the_answer_to_what_the_first_asked(sidecar: Sidecar) -> None:
    async def scenario() -> None:
        async with Client(sidecar.url) as first:
            calling = asyncio.create_task(first.call_tool("egress-block", ASK))
            ident = await pending(sidecar)
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
        sidecar.do(lambda: sidecar.desk.answer(ident, Answer(REJECTED, "d-1", NOW, "no")))
        async with Client(sidecar.url) as second:
            for arguments in (("check-proposal", {"id": ident}), ("egress-block", ASK)):
                found = await second.call_tool(*arguments)
                assert found.structured_content is not None
                assert (found.structured_content["state"], found.structured_content["reason"]) == (
                    "rejected",
                    "no",
                )

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))


def test_what_cannot_be_asked_is_an_error_of_the_tool_and_an_unknown_tool_one_of_the_protocol(
    sidecar: Sidecar,
) -> None:
    async def scenario() -> None:
        async with Client(sidecar.url) as client:
            found = await client.call_tool("egress-block", {"host": "*.example.org", "justification": "all"})
            assert found.is_error
            assert "wildcard" in str(found.content)
            with pytest.raises(MCPError):
                await client.call_tool("rm", {})

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))
