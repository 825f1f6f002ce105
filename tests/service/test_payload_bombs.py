"""Fifty kinds of hostile messages between good ones, through a real worker."""

import asyncio
import json

import pytest

from bus import Receipt, Settings, Worker
from bus.common import clock
from bus.observe import log
from bus.transports.base import MAX_BODY, Frame
from bus.transports.topology import event_topic
from tests.service.wallet import Diary, GetWallet, Pay, build
from tests.waiting import until

SECRET = b"s3cr3t-4711"
BODIES = [
    b"",
    b"null",
    b"[]",
    b"4711",
    b'"%s"' % SECRET,
    b"%s" % SECRET,
    b'{"mood":"%s"' % SECRET,
    b'{"amount":1,"mood":"%s"} x' % SECRET,
    b'\xef\xbb\xbf{"amount":1,"mood":"%s"}' % SECRET,
    b'{"amount":1,"mood":"%s\xff"}' % SECRET,
    b'{"amount":1,"mood":"%s\xc0\xaf"}' % SECRET,
    b'{"amount":1,"mood":"%s\\ud800"}' % SECRET,
    b'{"amount":1,"mood":"%s\\udc00\\ud800"}' % SECRET,
    b'{"amount":1,"mood":"%s\n"}' % SECRET,
    b'{"amount":1,"mood":"%s\x00"}' % SECRET,
    b"{'amount':1,'mood':'%s'}" % SECRET,
    b'{"amount":1,"mood":"%s",}' % SECRET,
    b'{"amount":1 /* %s */}' % SECRET,
    b'{"amount":NaN,"mood":"%s"}' % SECRET,
    b'{"amount":Infinity,"mood":"%s"}' % SECRET,
    b'{"amount":-Infinity,"mood":"%s"}' % SECRET,
    b'{"amount":1e999,"mood":"%s"}' % SECRET,
    b'{"amount":1,"rest":1e999,"mood":"%s"}' % SECRET,
    b'{"amount":9223372036854775808,"mood":"%s"}' % SECRET,
    b'{"amount":-9223372036854775809,"mood":"%s"}' % SECRET,
    b'{"amount":1,"rest":[99999999999999999999],"mood":"%s"}' % SECRET,
    b'{"amount":' + b"9" * 10_000 + b"}",
    b'{"amount":0x10,"mood":"%s"}' % SECRET,
    b'{"amount":1.5,"mood":"%s"}' % SECRET,
    b'{"amount":"%s"}' % SECRET,
    b'{"amount":null,"mood":"%s"}' % SECRET,
    b'{"amount":{"$gt":"%s"}}' % SECRET,
    b'{"amount":[1],"mood":"%s"}' % SECRET,
    b'{"mood":"%s"}' % SECRET,
    b'{"amount":1,"amount":2,"mood":"%s"}' % SECRET,
    b'{"amount":1,"\\u0061mount":2,"mood":"%s"}' % SECRET,
    b'{"amount":1,"rest":{"a":1,"a":"%s"}}' % SECRET,
    b'{"amount":1,"rest":{"$where":"%s"}}' % SECRET,
    b'{"amount":1,"rest":{"$ref":"a","$id":"%s"}}' % SECRET,
    b'{"amount":1,"rest":{"a\\u0000b":"%s"}}' % SECRET,
    b'{"amount":1,"rest":' + b"[" * 60 + b"]" * 60 + b"}",
    b'{"amount":1,"rest":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    b"[" * 500_000,
    b'{"amount":1,"mood":"' + b"x" * (MAX_BODY - 20),
]
GOOD = b'{"amount":1,"mood":"%s"}' % SECRET
HEADERS: list[dict[str, str | int]] = [
    {"version": 0},
    {"version": -1},
    {"version": "one"},
    {"stream": "nodash"},
    {"stream": 4711},
    {"schema": "new"},
    {"version": "1"},
]


def bombs() -> list[Frame]:
    frames = [_frame(number, body, {}) for number, body in enumerate(BODIES)]
    return frames + [
        _frame(len(BODIES) + number, GOOD, headers) for number, headers in enumerate(HEADERS)
    ]


def _frame(number: int, body: bytes, headers: dict[str, str | int]) -> Frame:
    stream = f"wallet-bomb{number}"
    topic = event_topic("wallet", "Paid", stream)
    full: dict[str, str | int] = {"stream": stream, "version": 1, "schema": 1, **headers}
    return Frame("events", topic, f"bomb{number}", "Paid", body, clock.now(), "c", full)


async def test_fifty_kinds_of_bombs_stop_nobody_and_each_is_kept_with_a_reason(
    real_settings: Settings, unique: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log.configure(json=True, level="DEBUG")
    diary = Diary()
    frames = bombs()
    assert len(frames) >= 50
    async with build(real_settings, diary, unique) as bus, Worker(bus):

        async def throw(number: int) -> Receipt:
            assert await bus.runtime.transport.publish([frames[number]]) == {}
            return await bus.execute(Pay(wallet_id=f"good{number}", amount=3))

        receipts = await asyncio.gather(*map(throw, range(len(frames))))
        for number, receipt in enumerate(receipts):
            found = await bus.query(GetWallet(wallet_id=f"good{number}"), after=receipt, timeout=20)
            assert found is not None
            assert found.total == 3
        good = {(f"wallet-good{number}", 1) for number in range(len(frames))}
        await until(lambda: good <= set(diary.seen), "each good event is handled")
        assert set(diary.seen) == good
        control = bus.runtime.control

        async def kept() -> bool:
            return len(await control.dead_letters(1000)) == 2 * len(frames)

        await until(kept, "each bomb is kept, by the projection and by the handler")
        letters = await control.dead_letters(1000)
    assert {letter["error"] for letter in letters} == {"InvalidMessage"}
    assert {letter["message_id"] for letter in letters} == {frame.id for frame in frames}
    assert all(0 < len(letter["reason"]) < 400 for letter in letters)
    assert not any("4711" in letter["reason"] for letter in letters)
    printed = "".join(capfd.readouterr())
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert len([line for line in lines if line["event"] == "gave_up"]) == len(letters)
    assert SECRET.decode() not in printed
