"""Our frames against the library's own reading and writing of AMQP."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pamqp.frame
import pytest
from pamqp import body, commands, header, heartbeat

from bus.transports.base import EPOCH, Frame
from bus.transports.rabbitmq import frames
from bus.transports.rabbitmq.frame_reader import FrameReader

TIME = datetime(2026, 11, 23, 9, 0, 0, 417000, UTC)
TORN = b"\x01\x00\x01\x00"
MILLISECONDS = round(TIME.timestamp() * 1000)
FRAME = Frame(
    address="events",
    topic="job.JobPosted.7",
    id="id#1",
    name="JobPosted",
    body=b"0123456789",
    time=TIME,
    correlation_id="c1",
    headers={"stream": "job-ü", "small": 1, "large": 2**31 - 1, "below": -5},
)


def read_all(data: bytes) -> list[Any]:
    frames = []
    while data:
        size, channel, frame = pamqp.frame.unmarshal(data)
        assert channel == 3
        frames.append(frame)
        data = data[size:]
    return frames


def content(properties: commands.Basic.Properties) -> Frame:
    data = header.ContentHeader(0, 10, properties).marshal()
    return frames.content(data, 0, frames.Incoming(1, False, "jobs.events", "job.JobPosted.7"), b"")


@pytest.mark.parametrize(("limit", "pieces"), [(100, 1), (10, 1), (4, 3)])
def test_what_we_publish_is_what_the_library_reads(limit: int, pieces: int) -> None:
    data = frames.publish(
        FRAME,
        "id#1#9",
        channel=3,
        exchange=frames.short("jobs.events"),
        app_id=frames.short("jobs"),
        mandatory=True,
        limit=limit,
    )
    method, head, *bodies = read_all(data)
    assert (method.exchange, method.routing_key) == ("jobs.events", FRAME.topic)
    assert (method.mandatory, method.immediate) == (True, False)
    assert head.body_size == 10
    assert len(bodies) == pieces
    assert b"".join(piece.value for piece in bodies) == FRAME.body
    properties = {name: value for name, value in head.properties if value}
    assert properties.pop("headers") == {**FRAME.headers, "timestamp_in_ms": MILLISECONDS}
    assert properties == {
        "content_type": "application/json",
        "delivery_mode": 2,
        "correlation_id": "c1",
        "message_id": "id#1#9",
        "timestamp": TIME.replace(microsecond=0),
        "message_type": "JobPosted",
        "app_id": "jobs",
    }


def test_what_the_library_writes_is_what_we_read() -> None:
    delivery = commands.Basic.Deliver(
        "tag", 2**40, True, "jobs.events", "job.JobPosted.7"
    ).marshal()
    incoming = frames.deliver(b"\x00\x3c\x00\x3c" + delivery, 0)
    assert incoming == frames.Incoming(2**40, True, "jobs.events", "job.JobPosted.7")


def test_a_message_with_every_property_is_read() -> None:
    properties = commands.Basic.Properties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={
            "text": "ü",
            "numbers": 2**40,
            "byte": -1,
            "short": 300,
            "word": 40000,
            "integer": 2**31,
            "x-delivery-count": 3,
        },
        delivery_mode=2,
        priority=1,
        correlation_id="c1",
        reply_to="r",
        expiration="1000",
        message_id="id#7",
        timestamp=TIME,
        message_type="JobPosted",
        user_id="guest",
        app_id="jobs",
    )
    frame = content(properties)
    assert (frame.id, frame.name, frame.correlation_id) == ("id", "JobPosted", "c1")
    assert frame.time == TIME - timedelta(milliseconds=417)
    assert frame.headers == {
        "text": "ü",
        "numbers": 2**40,
        "byte": -1,
        "short": 300,
        "word": 40000,
        "integer": 2**31,
    }


def test_a_foreign_message_is_read_as_far_as_it_goes() -> None:
    frame = content(commands.Basic.Properties())
    assert (frame.id, frame.name, frame.correlation_id) == ("", "", "")
    assert frame.time == EPOCH
    assert frame.headers == {}


def test_headers_of_other_kinds_are_left_out() -> None:
    deaths: Any = [{"queue": "q", "count": 1}]
    properties = commands.Basic.Properties(
        headers={"a": "1", "x-death": deaths, "yes": True, "z": 2}
    )
    assert content(properties).headers == {"a": "1", "z": 2}


def test_a_time_out_of_range_is_no_reason_to_fail() -> None:
    properties = commands.Basic.Properties(headers={"timestamp_in_ms": 2**62})
    assert content(properties).time == EPOCH


def test_settling_is_what_the_library_reads() -> None:
    data = (
        frames.settle(frames.ACK, 3, 2**40, 1)
        + frames.settle(frames.NACK, 3, 5, 2)
        + frames.reject(3, 6)
    )
    ack, nack, reject = read_all(data)
    assert (ack.delivery_tag, ack.multiple) == (2**40, True)
    assert (nack.delivery_tag, nack.multiple, nack.requeue) == (5, False, True)
    assert (reject.delivery_tag, reject.requeue) == (6, True)


class Taker:
    """Takes every delivery's method frame of its channel."""

    def __init__(self) -> None:
        self.tags: list[int] = []

    def receive(self, kind: int, data: bytes, start: int, end: int) -> bool:
        if kind != frames.METHOD or frames.method(data, start) != frames.DELIVER:
            return False
        self.tags.append(frames.deliver(data, start).tag)
        return True


@pytest.mark.parametrize("size", [1, 2, 7, 8, 50, 100_000])
async def test_the_tap_takes_its_frames_from_a_stream_torn_anywhere(size: int) -> None:
    reader, taker = FrameReader(), Taker()
    reader.handlers[1] = taker
    left = [
        pamqp.frame.marshal(frame, channel)
        for frame, channel in (
            (commands.Basic.Deliver("c", 7, False, "e", "r"), 2),
            (commands.Basic.ConsumeOk("c"), 1),
            (body.ContentBody(b"x" * 300), 1),
            (heartbeat.Heartbeat(), 0),
        )
    ]
    taken = [
        pamqp.frame.marshal(commands.Basic.Deliver("c", n, False, "e", "r"), 1) for n in range(5)
    ]
    stream = b"".join([left[0], taken[0], taken[1], *left[1:3], *taken[2:], left[3]]) + TORN
    for start in range(0, len(stream), size):
        reader.feed_data(stream[start : start + size])
    reader.feed_eof()
    assert taker.tags == [0, 1, 2, 3, 4]
    rest = await reader.read()
    assert rest.replace(frames.HEARTBEAT, b"") == (b"".join(left) + TORN).replace(
        frames.HEARTBEAT, b""
    )


async def test_the_tap_refuses_what_is_not_amqp() -> None:
    with pytest.raises(ConnectionError):
        FrameReader().feed_data(b"HTTP/1.1 400 Bad Request")


async def test_the_tap_knows_of_an_alarm() -> None:
    reader = FrameReader()
    reader.feed_data(pamqp.frame.marshal(commands.Connection.Blocked("low on memory"), 0))
    assert reader.blocked
    reader.feed_data(pamqp.frame.marshal(heartbeat.Heartbeat(), 0))
    assert reader.blocked
    reader.feed_data(pamqp.frame.marshal(commands.Connection.Unblocked(), 0))
    assert not reader.blocked


async def test_a_stream_that_is_taken_whole_still_shows_the_library_a_sign_of_life() -> None:
    reader = FrameReader()
    reader.handlers[1] = Taker()
    frame = pamqp.frame.marshal(commands.Basic.Deliver("c", 1, False, "e", "r"), 1)
    reader.feed_data(frame)
    reader.feed_data(frame)
    async with asyncio.timeout(30):
        assert await reader.readexactly(8) == frames.HEARTBEAT


def test_what_we_publish_is_read_in_a_straight_line_as_in_any_other() -> None:
    published = frames.publish(
        FRAME,
        "id#1#9",
        channel=3,
        exchange=frames.short("jobs.events"),
        app_id=frames.short("jobs"),
        mandatory=True,
        limit=100,
    )
    _, head, _ = read_all(published)
    start = published.index(b"\xce") + 8  # past the method's frame, and the header's beginning
    others = commands.Basic.Properties(**{**dict(head.properties), "priority": 1})
    incoming = frames.Incoming(1, False, "jobs.events", FRAME.topic)
    assert frames.content(published, start, incoming, FRAME.body) == FRAME
    assert content(others) == FRAME._replace(body=b"")
