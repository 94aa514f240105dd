"""The multiplexer: whatever the pieces in which bytes arrive, lanes and library get the same; nonsense ends it."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import base, body, commands, frame, header, heartbeat

from mqtool.amqp import wire
from mqtool.amqp.mux import FLUSH_BYTES, Mux, RawDelivery
from mqtool.errors import BrokerError, ChannelLost
from mqtool.message import Properties

SOME = settings(max_examples=100, deadline=None)
Call = tuple[object, ...]

LANES = (1, 2)
FOREIGN = 3  # a channel that has no lane


@dataclass
class Recorder:
    """A lane that writes down what it is told, and reads of each message what the real ones read."""

    name: int
    calls: list[Call] = field(default_factory=list)
    flush: Callable[[], None] = lambda: None

    def on_content(self, method: bytes, header: bytes, body: bytes) -> None:
        raw = RawDelivery(method, header)
        what = "deliver" if method[:4] == wire.DELIVER else "return"
        self.calls.append((self.name, what, raw.exchange, raw.routing_key, raw.properties().message_id, body))

    def on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        self.calls.append((self.name, "confirm", tag, multiple, accepted))

    def on_flush(self) -> None:
        self.calls.append((self.name, "flush"))
        self.flush()

    def on_lost(self, reason: BrokerError) -> None:
        self.calls.append((self.name, "lost", reason))


class Desk:
    """A multiplexer with two lanes, and everything that comes out of it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.corrupt: list[str] = []
        self.written: list[bytes] = []
        self.turn: list[Callable[[], None]] = []
        self.mux = Mux(self.written.append, self.turn.append)
        self.mux.on_corrupt = self.corrupt.append
        self.mux.on_blocked = lambda reason: self.calls.append((0, "blocked", reason))
        self.lanes = {number: Recorder(number, self.calls) for number in LANES}
        for number, lane in self.lanes.items():
            self.mux.attach(number, lane)

    def feed(self, pieces: list[bytes]) -> bytes:
        return b"".join(self.mux.feed(piece) for piece in pieces)

    def end_turn(self) -> None:
        turn, self.turn[:] = list(self.turn), []
        for callback in turn:
            callback()


# -- streams of frames, made by pamqp --------------------------------------------------------------


@dataclass
class Frame:
    """One frame: its bytes, whether the library gets them, and what a lane is told when it has arrived."""

    data: bytes
    library: bool = False
    call: Call | None = None


def marshal(channel: int, what: base.Frame | body.ContentBody | header.ContentHeader | heartbeat.Heartbeat) -> bytes:
    return frame.marshal(what, channel)


def content(channel: int, start: base.Frame, message_id: str, parts: list[bytes]) -> list[bytes]:
    """A delivery or return: method, header, and the body in ``parts``."""
    properties = commands.Basic.Properties(message_id=message_id, headers={"k": "v"})
    size = sum(map(len, parts))
    frames = [marshal(channel, start), marshal(channel, header.ContentHeader(body_size=size, properties=properties))]
    return frames + [marshal(channel, body.ContentBody(part)) for part in parts]


TAG = st.integers(1, 2**63 - 1)
WORD = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8)
PARTS = st.lists(st.binary(min_size=1, max_size=30), max_size=4)


@st.composite
def event(draw: st.DrawFn, channel: int) -> list[Frame]:
    """Something that the broker sends on a channel, as its frames."""
    ours = channel in LANES
    kind = draw(st.sampled_from(["confirm", "deliver", "return", "other"]))
    if kind == "other":
        other = draw(
            st.sampled_from([commands.Channel.OpenOk(), commands.Basic.QosOk(), commands.Basic.Cancel("tag", True)])
        )
        return [Frame(marshal(channel, other), library=True)]
    if kind == "confirm":
        tag, multiple, accepted = draw(TAG), draw(st.booleans()), draw(st.booleans())
        confirm = commands.Basic.Ack(tag, multiple) if accepted else commands.Basic.Nack(tag, multiple)
        return [Frame(marshal(channel, confirm), not ours, (channel, "confirm", tag, multiple, accepted))]
    exchange, key, message_id, parts = draw(WORD), draw(WORD), draw(WORD), draw(PARTS)
    start: base.Frame = (
        commands.Basic.Deliver(draw(WORD), draw(TAG), draw(st.booleans()), exchange, key)
        if kind == "deliver"
        else commands.Basic.Return(312, "NO_ROUTE", exchange, key)
    )
    frames = [Frame(data, not ours) for data in content(channel, start, message_id, parts)]
    frames[-1].call = (channel, kind, exchange, key, message_id, b"".join(parts))
    return frames


@st.composite
def connection_event(draw: st.DrawFn) -> list[Frame]:
    """Something that the broker sends on channel 0: the library gets all of it."""
    kind = draw(st.sampled_from(["heartbeat", "blocked", "unblocked"]))
    if kind == "heartbeat":
        return [Frame(marshal(0, heartbeat.Heartbeat()), library=True)]
    if kind == "unblocked":
        return [Frame(marshal(0, commands.Connection.Unblocked()), True, (0, "blocked", None))]
    reason = draw(WORD)
    return [Frame(marshal(0, commands.Connection.Blocked(reason)), True, (0, "blocked", reason))]


@st.composite
def streams(draw: st.DrawFn) -> list[Frame]:
    """Events on several channels whose frames interleave, as each channel's own order allows."""
    channels: dict[int, deque[Frame]] = {}
    for number in (0, *LANES, FOREIGN):
        events = draw(st.lists(event(number) if number else connection_event(), max_size=3))
        channels[number] = deque(one for frames in events for one in frames)
    merged = []
    for number in draw(st.lists(st.sampled_from(list(channels)), max_size=20)):
        if channels[number]:
            merged.append(channels[number].popleft())
    return merged + [one for frames in channels.values() for one in frames]


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """``data`` in pieces of any size."""
    places = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=12))})
    return [data[start:end] for start, end in pairwise(places)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def whole(data: bytes) -> list[bytes]:
    return [data]


# -- input -------------------------------------------------------------------------------------------


@SOME
@given(streams(), st.data())
def test_any_pieces_give_the_same_calls_and_the_same_bytes_for_the_library(
    stream: list[Frame], data: st.DataObject
) -> None:
    octets = b"".join(one.data for one in stream)
    library = b"".join(one.data for one in stream if one.library)
    calls = [one.call for one in stream if one.call and one.call[0] in (0, *LANES)]
    for pieces in (whole(octets), bytewise(octets), data.draw(cut(octets))):
        desk = Desk()
        assert desk.feed(pieces) == library
        assert desk.calls == calls
        assert desk.corrupt == []


@SOME
@given(streams(), st.data())
def test_a_frame_is_handed_on_as_soon_as_it_is_complete(stream: list[Frame], data: st.DataObject) -> None:
    """Nothing waits for what comes behind it."""
    count = data.draw(st.integers(0, len(stream)))
    begun = stream[count].data[:-1] if count < len(stream) else b""
    desk = Desk()
    library = desk.feed([b"".join(one.data for one in stream[:count]) + begun])
    assert library == b"".join(one.data for one in stream[:count] if one.library)
    assert desk.calls == [one.call for one in stream[:count] if one.call and one.call[0] in (0, *LANES)]


DELIVER = commands.Basic.Deliver("tag", 7, False, "x", "k")


def recorded() -> list[Frame]:
    """Something of everything that a broker sends."""
    deliver = commands.Basic.Deliver("tag", 7, True, "exchange", "key")
    returned = commands.Basic.Return(312, "NO_ROUTE", "exchange", "key")
    first = [Frame(data) for data in content(1, deliver, "a", [b"one", b"two"])]
    first[-1].call = (1, "deliver", "exchange", "key", "a", b"onetwo")
    second = [Frame(data) for data in content(2, returned, "b", [])]
    second[-1].call = (2, "return", "exchange", "key", "b", b"")
    third = [Frame(data) for data in content(1, deliver, "c", [b"whole"])]
    third[-1].call = (1, "deliver", "exchange", "key", "c", b"whole")
    foreign = [Frame(data, library=True) for data in content(FOREIGN, deliver, "d", [b"theirs"])]
    confirms = [
        Frame(marshal(2, commands.Basic.Ack(9, True)), call=(2, "confirm", 9, True, True)),
        Frame(marshal(2, commands.Basic.Nack(10, False)), call=(2, "confirm", 10, False, False)),
    ]
    blocked = Frame(marshal(0, commands.Connection.Blocked("low")), True, (0, "blocked", "low"))
    beat = Frame(marshal(0, heartbeat.Heartbeat()), library=True)
    return [*first[:2], blocked, *second, *confirms, *first[2:], *foreign, beat, *third]


def test_a_stream_cut_at_any_one_or_two_places_gives_the_same() -> None:
    stream = recorded()
    octets = b"".join(one.data for one in stream)
    library = b"".join(one.data for one in stream if one.library)
    calls = [one.call for one in stream if one.call]
    for at in range(len(octets) + 1):
        for size in (0, 1, 7, 40):
            desk = Desk()
            assert desk.feed([octets[:at], octets[at : at + size], octets[at + size :]]) == library
            assert desk.calls == calls
            assert desk.corrupt == []


def test_a_channel_that_the_broker_closes_is_told_at_once_and_the_library_gets_it_too() -> None:
    close = marshal(1, commands.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40))
    foreign = marshal(FOREIGN, commands.Channel.Close(404, "NOT_FOUND - no queue", 50, 10))
    for pieces in (whole(foreign + close), bytewise(foreign + close)):
        desk, told = Desk(), []
        desk.mux.on_channel_closed = lambda *what, told=told: told.append(what)
        assert desk.feed(pieces) == foreign + close
        assert told == [(1, 404, "NOT_FOUND - no exchange")]


def test_a_message_without_body_is_complete_with_its_header() -> None:
    desk = Desk()
    desk.feed(content(1, DELIVER, "id", []))
    assert desk.calls == [(1, "deliver", "x", "k", "id", b"")]


def test_the_reason_of_the_brokers_close_is_kept_and_the_library_gets_it_too() -> None:
    close = marshal(0, commands.Connection.Close(320, "CONNECTION_FORCED - bye", 0, 0))
    for pieces in (whole(close), bytewise(close)):
        desk = Desk()
        assert desk.feed(pieces) == close
        assert desk.mux.closed == (320, "CONNECTION_FORCED - bye")


def test_a_block_without_a_reason_is_a_block() -> None:
    desk = Desk()
    desk.feed([marshal(0, commands.Connection.Blocked(""))])
    assert desk.calls == [(0, "blocked", "no reason given")]


def test_stray_content_on_a_lanes_channel_is_the_librarys() -> None:
    """It never was ours: the library may have asked for it (basic.get), or knows what to say about it."""
    _, *frames = content(1, DELIVER, "id", [b"body"])
    desk = Desk()
    assert desk.feed(frames) == b"".join(frames)
    assert desk.calls == []


def test_headers_are_seen_without_decoding_them() -> None:
    without = wire.properties(Properties(message_id="id"))
    with_some = wire.properties(Properties(message_id="id", headers={"k": 1}))
    assert not RawDelivery(b"", bytes(12) + without).has_headers
    assert RawDelivery(b"", bytes(12) + with_some).has_headers


# -- nonsense ------------------------------------------------------------------------------------------


def damaged(frames: list[bytes], number: int) -> bytes:
    """The frames, one of them with a wrong end octet."""
    return b"".join(data[:-1] + b"\x00" if at == number else data for at, data in enumerate(frames))


CONTENT = content(1, DELIVER, "id", [b"first", b"second"])
ACK = marshal(1, commands.Basic.Ack(1, False))
PIECES = pytest.mark.parametrize("pieces", [whole, bytewise])


def method(payload: bytes, channel: int = 1, kind: int = wire.FRAME_METHOD) -> bytes:
    return wire.frame_head.pack(kind, channel, len(payload)) + payload + b"\xce"


def header_frame(payload: bytes) -> bytes:
    return method(payload, kind=wire.FRAME_HEADER)


def body_frame(payload: bytes) -> bytes:
    return method(payload, kind=wire.FRAME_BODY)


@PIECES
@pytest.mark.parametrize(
    ("octets", "says"),
    [
        pytest.param(damaged(CONTENT, 0), "without its end", id="method without its end"),
        pytest.param(damaged(CONTENT, 1), "without its end", id="header without its end"),
        pytest.param(damaged(CONTENT, 2), "without its end", id="first body frame without its end"),
        pytest.param(damaged(CONTENT, 3), "without its end", id="last body frame without its end"),
        pytest.param(damaged(content(1, DELIVER, "id", [b"all"]), 2), "without its end", id="only body frame"),
        pytest.param(damaged(content(1, DELIVER, "id", [b"all"]), 1), "without its end", id="header before it"),
        pytest.param(damaged(content(1, DELIVER, "id", []), 1), "without its end", id="header without a body"),
        pytest.param(damaged([marshal(FOREIGN, DELIVER)], 0), "without its end", id="on a channel of the library"),
        pytest.param(damaged([marshal(0, heartbeat.Heartbeat())], 0), "without its end", id="heartbeat"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "more than any", id="not AMQP at all"),
        pytest.param(method(wire.ACK + b"\x00" * 3), "cannot be read", id="ack without its tag"),
        pytest.param(method(wire.NACK), "cannot be read", id="nack without anything"),
        pytest.param(method(wire.DELIVER) + b"".join(CONTENT[1:]), "cannot be read", id="delivery without a route"),
        pytest.param(method(wire.RETURN) + b"".join(CONTENT[1:]), "cannot be read", id="return without a route"),
        pytest.param(method(wire.DELIVER + b"\xff") + b"".join(CONTENT[1:]), "cannot be read", id="cut route"),
        pytest.param(CONTENT[0] + header_frame(b"\x00\x3c" + bytes(11)), "cannot be read", id="short header"),
        pytest.param(CONTENT[0] + header_frame(b""), "cannot be read", id="empty header"),
        pytest.param(CONTENT[0] + body_frame(b"x"), "cannot be read", id="body without header"),
        pytest.param(CONTENT[0] + body_frame(b""), "cannot be read", id="empty body without header"),
        pytest.param(b"".join([*CONTENT[:2], CONTENT[1]]), "cannot be read", id="two headers"),
        pytest.param(b"".join([*CONTENT[:3], body_frame(b"too much")]), "cannot be read", id="body too long"),
        pytest.param(b"".join([*CONTENT[:2], body_frame(b"longer than said")]), "cannot be read", id="long only body"),
        pytest.param(b"".join([*CONTENT[:3], *CONTENT]), "cannot be read", id="a delivery inside a delivery"),
        pytest.param(b"".join([*CONTENT[:1], *content(1, DELIVER, "", [])]), "cannot be read", id="two deliveries"),
        pytest.param(b"".join([*CONTENT[:2], method(b"", kind=8)]), "cannot be read", id="heartbeat inside"),
        pytest.param(method(wire.BLOCKED, channel=0), "cannot be read", id="blocked without a reason's length"),
        pytest.param(method(wire.BLOCKED + b"\x09abc", channel=0), "cannot be read", id="blocked, reason cut short"),
    ],
)  # fmt: skip
def test_nonsense_ends_the_connection(octets: bytes, says: str, pieces: Callable[[bytes], list[bytes]]) -> None:
    desk = Desk()
    for piece in pieces(octets):
        desk.mux.feed(piece)
        if desk.corrupt:
            break
    assert len(desk.corrupt) == 1
    assert says in desk.corrupt[0]
    assert desk.mux.feed(b"") == b""  # nothing of it is kept


def test_what_came_whole_before_the_damage_is_not_taken_back() -> None:
    desk = Desk()
    desk.feed([ACK + damaged(CONTENT, 0)])
    assert desk.calls == [(1, "confirm", 1, False, True)]
    assert len(desk.corrupt) == 1


@PIECES
@pytest.mark.parametrize("channel", [1, FOREIGN])
def test_the_largest_frame_is_held(channel: int, pieces: Callable[[bytes], list[bytes]]) -> None:
    for size, corrupt in ((4096, 0), (4097, 1)):
        desk = Desk()
        desk.mux.frame_max = 4096
        data = b"".join(content(channel, DELIVER, "id", [b"x" * size]))
        for piece in pieces(data):
            desk.mux.feed(piece)
            if desk.corrupt:
                break
        assert len(desk.corrupt) == corrupt


def test_an_oversized_frame_is_refused_before_it_arrives() -> None:
    desk = Desk()
    desk.mux.feed(struct.pack(">BHI", 3, 1, 2**32 - 1) + b"x")
    assert "more than any broker sends" in desk.corrupt[0]


@SOME
@given(st.binary(max_size=120))
def test_no_bytes_make_it_raise(octets: bytes) -> None:
    desk = Desk()
    desk.mux.feed(octets)
    for kind in (wire.FRAME_METHOD, wire.FRAME_HEADER, wire.FRAME_BODY):
        desk.mux.feed(method(octets, kind=kind))
    for number in (wire.DELIVER, wire.RETURN, wire.ACK, wire.NACK):
        desk.mux.feed(method(number + octets) + b"".join(CONTENT[1:]))


@SOME
@given(streams(), st.data())
def test_damage_touches_nothing_that_came_before_it(stream: list[Frame], data: st.DataObject) -> None:
    damaged = data.draw(st.integers(0, len(stream)))
    octets = bytearray(b"".join(one.data for one in stream))
    before = sum(len(one.data) for one in stream[:damaged])
    if before < len(octets):
        octets[data.draw(st.integers(before, len(octets) - 1))] = data.draw(st.integers(0, 255))
    desk = Desk()
    desk.feed(data.draw(cut(bytes(octets))))
    sound = [one.call for one in stream[:damaged] if one.call and one.call[0] in (0, *LANES)]
    assert desk.calls[: len(sound)] == sound


# -- lanes that come and go ----------------------------------------------------------------------------


def test_a_channel_that_goes_in_the_middle_of_a_message_leaves_the_rest_to_the_library() -> None:
    frames = content(1, DELIVER, "id", [b"first", b"second"])
    desk = Desk()
    assert desk.feed(frames[:3]) == b""
    gone = ChannelLost("gone")
    desk.mux.detach(1, gone)
    assert desk.feed(frames[3:]) == frames[3]
    assert desk.calls == [(1, "lost", gone)]


def test_a_channel_that_is_opened_again_begins_with_a_clean_slate() -> None:
    desk = Desk()
    desk.feed(content(1, DELIVER, "old", [b"first", b"second"])[:3])
    desk.mux.detach(1, ChannelLost("gone"))
    desk.calls.clear()
    desk.mux.attach(1, desk.lanes[1])
    desk.feed(content(1, DELIVER, "new", [b"body"]))
    assert desk.calls == [(1, "deliver", "x", "k", "new", b"body")]


def test_a_lane_is_told_once_that_its_channel_is_gone() -> None:
    desk = Desk()
    first, second = ChannelLost("first"), ChannelLost("second")
    desk.mux.detach(1, first)
    desk.mux.detach(1, second)
    desk.mux.lost(second)
    desk.mux.lost(first)
    assert desk.calls == [(1, "lost", first), (2, "lost", second)]


def test_detaching_what_was_never_attached_does_nothing() -> None:
    desk = Desk()
    desk.mux.detach(99, ChannelLost("gone"))
    assert desk.calls == []


def test_the_other_lanes_go_on_when_one_is_gone() -> None:
    desk = Desk()
    desk.mux.detach(1, ChannelLost("gone"))
    desk.calls.clear()
    desk.feed([marshal(2, commands.Basic.Ack(5, True))])
    assert desk.calls == [(2, "confirm", 5, True, True)]


# -- output --------------------------------------------------------------------------------------------


def test_what_is_sent_in_one_turn_is_written_once_in_order() -> None:
    desk = Desk()
    desk.mux.send([b"a", b"b"], 2)
    desk.mux.send([b"c"], 1)
    assert desk.written == []
    assert len(desk.turn) == 1
    desk.end_turn()
    assert desk.written == [b"abc"]


def test_the_next_turn_is_written_too() -> None:
    desk = Desk()
    for data in (b"a", b"b"):
        desk.mux.send([data], 1)
        desk.end_turn()
    assert desk.written == [b"a", b"b"]


def test_a_turn_without_anything_to_send_writes_nothing() -> None:
    desk = Desk()
    desk.mux.flush()
    desk.mux.mark(desk.lanes[1])
    desk.end_turn()
    assert desk.written == []


def test_much_is_written_at_once() -> None:
    desk = Desk()
    desk.mux.send([b"a"], FLUSH_BYTES - 1)
    assert desk.written == []
    desk.mux.send([b"b"], 1)
    assert desk.written == [b"ab"]
    desk.mux.send([b"c"], FLUSH_BYTES - 1)  # the count begins anew
    assert desk.written == [b"ab"]
    desk.end_turn()
    assert desk.written == [b"ab", b"c"]


def test_what_lanes_held_back_goes_out_behind_what_was_sent_in_the_same_write() -> None:
    desk = Desk()
    desk.lanes[1].flush = lambda: desk.mux.send([b"acks of 1"], 9)
    desk.lanes[2].flush = lambda: desk.mux.send([b"acks of 2"], 9)
    desk.mux.mark(desk.lanes[2])
    desk.mux.send([b"reject,"], 7)
    desk.mux.mark(desk.lanes[1])
    desk.end_turn()
    assert desk.written == [b"reject,acks of 2acks of 1"]


def test_a_lane_is_asked_only_after_it_was_marked_again() -> None:
    desk = Desk()
    desk.mux.mark(desk.lanes[1])
    desk.end_turn()
    desk.mux.send([b"x"], 1)
    desk.end_turn()
    assert desk.calls == [(1, "flush")]
    desk.mux.mark(desk.lanes[1])
    desk.end_turn()
    assert desk.calls == [(1, "flush")] * 2


def test_lanes_that_hold_back_much_lose_nothing_and_keep_their_order() -> None:
    desk = Desk()
    desk.lanes[1].flush = lambda: desk.mux.send([b"1"], FLUSH_BYTES)
    desk.lanes[2].flush = lambda: desk.mux.send([b"2"], 1)
    desk.mux.mark(desk.lanes[1])
    desk.mux.mark(desk.lanes[2])
    desk.end_turn()
    desk.end_turn()
    assert b"".join(desk.written) == b"12"


def test_flushing_by_hand_leaves_nothing_for_the_turns_end() -> None:
    desk = Desk()
    desk.mux.send([b"a"], 1)
    desk.mux.flush()
    desk.mux.send([b"b"], 1)
    assert desk.written == [b"a"]
    desk.end_turn()
    assert desk.written == [b"a", b"b"]


def test_a_lost_connection_is_not_written_to() -> None:
    desk = Desk()
    desk.mux.send([b"a"], 1)
    desk.mux.mark(desk.lanes[1])
    desk.mux.lost(ChannelLost("gone"))
    desk.calls.clear()
    desk.end_turn()
    assert desk.written == []
    assert desk.calls == []
