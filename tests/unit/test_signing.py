"""Signatures of a service's own events."""

from datetime import timedelta
from typing import Any

import pytest

from bus.codec import event_frames
from bus.common import clock
from bus.signing import EPOCH_NOTE, SIGNATURE, Signing, epoch_of, new_epoch
from bus.stores.control import Note
from bus.stores.event_log import Commit, Recorded
from bus.stores.memory import MemoryControl
from bus.transports.base import Frame


async def signing(store: MemoryControl, secret: str = "") -> Signing:
    opened = Signing(store, secret)
    await opened.open()
    return opened


def frame_of(signs: Signing, **headers: str) -> Frame:
    event = Recorded("Opened", 1, {"owner": "Ada"})
    commit = Commit("c1", "account-a1", "account", 1, (event,), clock.now(), "conversation")
    (frame,) = event_frames(commit._replace(headers=headers), signs.sign)
    return frame


async def test_every_process_of_a_service_knows_the_events_of_the_others() -> None:
    store = MemoryControl()
    one, other = await signing(store), await signing(store)
    assert one.epoch == other.epoch == (await store.note(EPOCH_NOTE)).value["epoch"]
    assert other.verify(frame_of(one))
    assert other.verify(frame_of(one, tenant="t1", traceparent="00-1"))


async def test_every_process_of_a_service_knows_what_another_one_asked() -> None:
    store = MemoryControl()
    one, other, stranger = [await signing(each) for each in (store, store, MemoryControl())]
    token = one.token("bank/purse")
    assert await other.gave(token, "bank/purse")
    assert not await other.gave(token, "bank/card")
    assert not await stranger.gave(token, "bank/purse")
    assert not await other.gave("", "bank/purse")
    assert not await other.gave("é.é", "bank/purse")


async def test_a_token_of_a_new_epoch_is_learned() -> None:
    store = MemoryControl()
    one = await signing(store)
    note = await store.note(EPOCH_NOTE)
    assert await store.write_note(Note(EPOCH_NOTE, new_epoch(), note.revision))
    assert await one.gave((await signing(store)).token("bank/purse"), "bank/purse")


async def test_another_service_cannot_sign_for_this_one() -> None:
    own, other = await signing(MemoryControl()), await signing(MemoryControl())
    other.epoch = own.epoch
    assert not own.verify(frame_of(other))


CHANGES: dict[str, Any] = {
    "id": "c2:1",
    "name": "Closed",
    "body": b'{"owner":"Eve"}',
    "correlation_id": "another",
    "time": clock.now() + timedelta(seconds=1),
}
HEADERS: dict[str, str | int] = {
    "stream": "account-a2",
    "version": 2,
    "schema": 2,
    "causation_id": "x",
    "tenant": "t2",
    "added": "yes",
}


@pytest.mark.parametrize("field", CHANGES)
async def test_a_frame_that_was_changed_is_not_believed(field: str) -> None:
    own = await signing(MemoryControl())
    assert not own.verify(frame_of(own, tenant="t1")._replace(**{field: CHANGES[field]}))


@pytest.mark.parametrize("header", HEADERS)
async def test_a_header_that_was_changed_or_added_is_not_believed(header: str) -> None:
    own = await signing(MemoryControl())
    frame = frame_of(own, tenant="t1")
    changed = {**frame.headers, header: HEADERS[header]}
    assert not own.verify(frame._replace(headers=changed))
    missing = {key: value for key, value in frame.headers.items() if key != header}
    assert header == "added" or not own.verify(frame._replace(headers=missing))


async def test_what_retries_add_to_a_frame_changes_nothing() -> None:
    own = await signing(MemoryControl())
    frame = frame_of(own, tenant="t1")
    headers = {**frame.headers, "attempt": 3, "dead-letter": "x"}
    assert own.verify(frame._replace(address="", topic="bank.mails", headers=headers))


async def test_the_end_of_one_field_is_not_read_as_the_beginning_of_the_next() -> None:
    own = await signing(MemoryControl())
    frame = frame_of(own)
    stream = f"{frame.headers['stream']}\x001\x001\0c1"
    longer = frame._replace(headers={**frame.headers, "stream": stream})
    assert not own.verify(longer._replace(headers={**longer.headers, SIGNATURE: own.sign(longer)}))


@pytest.mark.parametrize("claim", ["", ".", "é.é", "no dot", 7])
async def test_a_signature_that_is_none_is_not_believed(claim: str | int) -> None:
    own = await signing(MemoryControl())
    frame = frame_of(own)
    assert not own.verify(frame._replace(headers={**frame.headers, SIGNATURE: claim}))


async def test_another_epoch_has_another_key_and_a_frame_names_its_own() -> None:
    store = MemoryControl()
    own = await signing(store)
    former = frame_of(own)
    note = await store.note(EPOCH_NOTE)
    assert await store.write_note(Note(EPOCH_NOTE, new_epoch(), note.revision))
    await own.open()
    assert epoch_of(former) != own.epoch
    assert not own.verify(former)
    assert own.verify(frame_of(own))


async def test_with_a_secret_the_database_alone_is_not_enough_to_sign() -> None:
    store = MemoryControl()
    without, own = await signing(store), await signing(store, "a secret")
    assert not own.verify(frame_of(without))
    assert (await signing(store, "a secret")).verify(frame_of(own))
