"""The multiplexer: takes the frames of the hot path out of a connection's bytes, and leaves the rest to the library.

Bytes that arrive pass through :meth:`Mux.feed`. Deliveries, confirms and returns on channels that have a lane are
handled here; every other frame is handed on unchanged, so that handshake, heartbeats, channel methods and errors stay
the client library's. Frames to send collect in one list and are written once per turn of the event loop.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from mqtool.amqp import wire
from mqtool.errors import BrokerError
from mqtool.message import Properties

#: Written at once when so much has collected, instead of at the end of the turn.
FLUSH_BYTES = 64 * 1024
#: No broker sends larger frames. Not the size agreed on: RabbitMQ itself goes beyond that when it adds x-death to
#: headers that nearly fill a frame (measured on 3.10 and 4.3). Whoever sends more is no broker, or bytes were damaged.
MAX_FRAME = 16 * 1024 * 1024
#: A content header without properties: class, weight, size of the body, flags.
_SHORTEST_HEADER = 14


class RawDelivery:
    """Route and properties of one delivery, still as bytes."""

    __slots__ = ("_header", "_method")

    def __init__(self, method: bytes, header: bytes) -> None:
        self._method = method
        self._header = header

    @property
    def exchange(self) -> str:
        """Read from the method frame."""
        return self._route()[0]

    @property
    def routing_key(self) -> str:
        """Read from the method frame."""
        return self._route()[1]

    def _route(self) -> tuple[str, str]:
        method = self._method
        # deliver: class, method, consumer tag, delivery tag, redelivered; return: class, method, code, text
        at = 4 + 1 + method[4] + 9 if method[:4] == wire.DELIVER else 6 + 1 + method[6]
        exchange, at = wire.read_short_string(method, at)
        return exchange, wire.read_short_string(method, at)[0]

    def identity(self) -> tuple[str, str, str]:
        """Message id, exchange and routing key: all that a return says about which publish it answers.

        The id is empty if there is none, or none that can be read.
        """
        try:
            message_id = self.properties().message_id or ""
        except ValueError:
            message_id = ""
        return (message_id, *self._route())

    @property
    def has_headers(self) -> bool:
        """Whether there is a headers table; known without decoding anything."""
        return bool(self._header[12] & 0x20)

    def properties(self) -> Properties:
        """Decode the content header.

        :raises ValueError: it is not what AMQP allows.
        """
        return wire.read_properties(self._header)


class Lane(Protocol):
    """What one channel does with its frames of the hot path. None of these may block or raise."""

    def on_content(self, method: bytes, header: bytes, body: bytes) -> None:
        """A whole delivered or returned message."""

    def on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        """A basic.ack or basic.nack of the broker."""

    def on_flush(self) -> None:
        """The turn ends: write what was held back (acks)."""

    def on_lost(self, reason: BrokerError) -> None:
        """The channel or connection is gone; called once."""


class _Partial:
    """A message whose content has not all arrived."""

    __slots__ = ("header", "method", "missing", "parts")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.header = b""
        self.missing = -1
        self.parts: list[bytes] = []


class Mux:
    """One connection's lanes, by channel number.

    :param write: hands bytes to the transport.
    :param call_soon: the event loop's.
    """

    def __init__(self, write: Callable[[bytes], object], call_soon: Callable[[Callable[[], None]], object]) -> None:
        self.lanes: dict[int, Lane] = {}
        self.on_blocked: Callable[[str | None], None] = lambda reason: None
        self.on_corrupt: Callable[[str], None] = lambda reason: None
        #: Told number, reply code and text when the broker closes a channel that has a lane.
        self.on_channel_closed: Callable[[int, int, str], None] = lambda channel, code, text: None
        #: Reply code and text with which the broker closed the connection, once it has.
        self.closed: tuple[int, str] | None = None
        self.frame_max = MAX_FRAME
        self._write = write
        self._call_soon = call_soon
        self._rest = b""
        self._partial: dict[int, _Partial] = {}
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._scheduled = False
        self._dirty: list[Lane] = []

    # -- output
    def send(self, pieces: list[bytes], size: int) -> None:
        """Queue complete frames; ``size`` is their rough number of bytes."""
        self._out += pieces
        self._out_bytes += size
        if self._out_bytes >= FLUSH_BYTES:
            self.flush()
        else:
            self._schedule()

    def mark(self, lane: Lane) -> None:
        """Call the lane's ``on_flush`` at the end of this turn."""
        self._dirty.append(lane)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        """Write everything that has collected, in order."""
        if self._dirty:
            self._scheduled = True  # what the lanes add now is written now
            dirty, self._dirty = self._dirty, []
            for lane in dirty:
                lane.on_flush()
        self._scheduled = False
        if self._out:
            out, self._out, self._out_bytes = self._out, [], 0
            self._write(b"".join(out))

    # -- input
    def feed(self, data: bytes) -> bytes:
        """Take in bytes from the socket; return those that are the library's.

        Bytes that are not AMQP end in ``on_corrupt``, never in an exception.
        """
        try:
            return self._feed(data)
        except (ValueError, IndexError, struct.error) as error:
            return self._corrupt(f"a frame that cannot be read: {error}")

    def _feed(self, data: bytes) -> bytes:
        if self._rest:
            data = self._rest + data
        size, at = len(data), 0
        theirs: list[bytes] = []
        unpack, lanes = wire.frame_head.unpack_from, self.lanes
        while size - at >= wire.FRAME_OVERHEAD:
            kind, channel, length = unpack(data, at)
            end = at + wire.FRAME_OVERHEAD + length
            if length > self.frame_max:
                return self._corrupt(f"a frame of {length} bytes, more than any broker sends")
            if end > size:
                break
            if data[end - 1] != wire.FRAME_END:
                return self._corrupt("a frame without its end")
            lane = lanes.get(channel)
            taken = 0 if lane is None else self._hot(lane, kind, channel, data, at, end)
            if not taken:
                if channel == 0:
                    self._watch_connection(data[at + 7 : end - 1])
                theirs.append(data[at:end])
            at = taken or end
        self._rest = data[at:]
        return b"".join(theirs)

    def _whole_delivery(self, lane: Lane, channel: int, data: bytes, at: int, end: int) -> int:
        """Handle a delivery whose three frames lie in ``data`` one behind the other, as nearly all do.

        :returns: the position behind it; 0 if it is not one of those.
        """
        size = len(data)
        if size - end < wire.FRAME_OVERHEAD + _SHORTEST_HEADER or channel in self._partial:
            return 0
        kind, number, length = wire.frame_head.unpack_from(data, end)
        header_end = end + wire.FRAME_OVERHEAD + length
        if (kind, number) != (wire.FRAME_HEADER, channel) or not _SHORTEST_HEADER <= length <= self.frame_max:
            return 0
        if header_end > size or data[header_end - 1] != wire.FRAME_END:
            return 0
        (body_size,) = wire.longlong.unpack_from(data, end + 11)
        if body_size == 0:
            lane.on_content(data[at + 7 : end - 1], data[end + 7 : header_end - 1], b"")
            return int(header_end)
        body_end = header_end + wire.FRAME_OVERHEAD + body_size
        if body_size > self.frame_max or body_end > size or data[body_end - 1] != wire.FRAME_END:
            return 0
        if wire.frame_head.unpack_from(data, header_end) != (wire.FRAME_BODY, channel, body_size):
            return 0
        body = data[header_end + 7 : body_end - 1]
        lane.on_content(data[at + 7 : end - 1], data[end + 7 : header_end - 1], body)
        return int(body_end)

    def _hot(self, lane: Lane, kind: int, channel: int, data: bytes, at: int, end: int) -> int:
        """Handle one frame of a lane's channel, or a whole delivery.

        :returns: the position behind what was handled; 0 if the frame is the library's.
        """
        if kind == wire.FRAME_METHOD:
            method = data[at + 7 : at + 11]
            if method == wire.DELIVER:
                whole = self._whole_delivery(lane, channel, data, at, end)
                if whole:
                    return whole
            if method == wire.ACK or method == wire.NACK:
                (tag,) = wire.longlong.unpack_from(data, at + 11)
                lane.on_confirm(tag, bool(data[at + 19] & 1), method == wire.ACK)
                return end
            if method == wire.DELIVER or method == wire.RETURN:
                if channel in self._partial:
                    raise ValueError("a message begins before the one before it has ended")
                self._partial[channel] = _Partial(data[at + 7 : end - 1])
                return end
            if method == wire.CHANNEL_CLOSE:
                self.on_channel_closed(channel, *_reply(data[at + 7 : end - 1]))
            return 0
        return self._content(lane, kind, channel, data, at, end)

    def _content(self, lane: Lane, kind: int, channel: int, data: bytes, at: int, end: int) -> int:
        """A header or body frame of a message that comes in pieces."""
        partial = self._partial.get(channel)
        if partial is None:
            return 0
        if kind == wire.FRAME_HEADER and end - at >= wire.FRAME_OVERHEAD + _SHORTEST_HEADER and not partial.header:
            partial.header = data[at + 7 : end - 1]
            (partial.missing,) = wire.longlong.unpack_from(data, at + 11)
        elif kind == wire.FRAME_BODY:
            partial.parts.append(data[at + 7 : end - 1])
            partial.missing -= end - at - wire.FRAME_OVERHEAD
        else:
            raise ValueError("something else than the content of the message that has begun")
        if partial.missing < 0:
            raise ValueError("more of a body than its header says")
        if partial.missing == 0:
            del self._partial[channel]
            parts = partial.parts
            lane.on_content(partial.method, partial.header, parts[0] if len(parts) == 1 else b"".join(parts))
        return end

    def _corrupt(self, what: str) -> bytes:
        self._rest = b""
        self.on_corrupt(f"the peer sent {what}")
        return b""

    def _watch_connection(self, payload: bytes) -> None:
        method = payload[:4]
        if method == wire.BLOCKED:
            self.on_blocked(wire.read_short_string(payload, 4)[0] or "no reason given")
        elif method == wire.UNBLOCKED:
            self.on_blocked(None)
        elif method == wire.CLOSE and len(payload) > 6:
            self.closed = _reply(payload)

    # -- lanes
    def attach(self, channel: int, lane: Lane) -> None:
        """Handle the hot frames of this channel from now on."""
        self.lanes[channel] = lane

    def detach(self, channel: int, reason: BrokerError) -> None:
        """The channel is gone: tell its lane, once, and leave its frames to the library."""
        self._partial.pop(channel, None)
        lane = self.lanes.pop(channel, None)
        if lane is not None:
            lane.on_lost(reason)

    def lost(self, reason: BrokerError) -> None:
        """The connection is gone: tell every lane, once."""
        self._out.clear()
        self._dirty.clear()
        for channel in list(self.lanes):
            self.detach(channel, reason)


def _reply(payload: bytes) -> tuple[int, str]:
    """Reply code and text of a method that closes a channel or the connection."""
    return int.from_bytes(payload[4:6], "big"), wire.read_short_string(payload, 6)[0]
