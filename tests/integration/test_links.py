"""The seam's connections under cancellation: what one task gives up costs nobody else anything."""

from __future__ import annotations

import asyncio

from mqtool import Settings
from mqtool.amqp.link import Link
from mqtool.errors import Unconfirmed
from mqtool.message import Properties


async def test_giving_up_a_channel_while_it_is_opened_leaves_the_connection_alone(vhost, until):
    async with await Link.open(Settings.of(vhost.url)) as link:
        for turns in range(60):
            opening = asyncio.create_task(link.declare_channel())
            for _ in range(turns % 9):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait((opening,))
        channel = await link.declare_channel()
        state = await channel.declare_queue("q", durable=True, exclusive=False, auto_delete=False, arguments={})
        assert state.ready == 0
        assert link.alive


async def test_a_cancellation_while_a_channel_closes_is_not_swallowed(vhost):
    cancelled = finished = 0

    async def work(link: Link) -> None:
        channel = await link.declare_channel()
        await channel.close()

    async with await Link.open(Settings.of(vhost.url)) as link:
        for step in range(120):
            task = asyncio.create_task(work(link))
            await asyncio.sleep(0.0003 * (step % 12))
            if not task.cancel():
                continue  # it had finished
            await asyncio.wait((task,))
            if task.cancelled():
                cancelled += 1
            else:
                finished += 1
    assert cancelled
    assert finished == 0


async def test_what_is_sent_while_the_library_closes_the_socket_is_unconfirmed_and_nothing_else(vhost, until):
    """The library ends the stream before it says that it does: writing then would raise in the event loop."""
    raised: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context))
    async with await Link.open(Settings.of(vhost.url)) as link:
        channel = await link.publish_channel()
        verdict = channel.publish("", "nowhere", Properties(), b"")  # written at the end of this turn
        link._transport.writer.write_eof()
        link._transport.writer.close()
        await until(lambda: channel.lost is not None)
        assert isinstance(verdict.exception(), Unconfirmed)
    assert raised == []
