"""Records of Kafka's and the events in them; how its brokers are reached."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner

from bus import ConfigurationError, InvalidMessage, StoreUnavailable
from bus.codec import event_frames
from bus.common import clock
from bus.kafka import KafkaFeed, KafkaTopic
from bus.kafka.records import Record, frame_of, partition_of, record_of, unreadable
from bus.kafka.urls import connection
from bus.stores.event_log import Commit, Recorded
from bus.stores.sinks.sent import SentEvent


def commit() -> Commit:
    return Commit(
        id="c1",
        stream="job-ä",
        category="job",
        first=3,
        events=(Recorded("Opened", 2, {"title": "Köchin", "pay": None}),),
        time=clock.now(),
        correlation_id="r1",
        causation_id="k1",
        headers={"user": "ada"},
    )


def event(one: Commit) -> SentEvent:
    (recorded,) = one.events
    return SentEvent(
        id=one.event_id(0),
        name=recorded.name,
        schema=recorded.schema,
        data=recorded.data,
        stream=one.stream,
        version=one.first,
        time=one.time,
        correlation_id=one.correlation_id,
        causation_id=one.causation_id or "",
        headers=one.headers,
    )


def fetched(record: Record, **changed: Any) -> Any:
    """The record as a consumer returns it, with other headers, or none of a name."""
    headers = dict(record.headers)
    for name, value in changed.items():
        headers.pop(name) if value is None else headers.update({name: value})
    return SimpleNamespace(
        topic="jobs", partition=1, offset=7, key=record.key, value=record.value,
        headers=list(headers.items()),
    )  # fmt: skip


def test_a_record_is_read_as_its_owner_would_publish_the_event() -> None:
    record = record_of(event(commit()), "jobs")
    (published,) = event_frames(commit())
    assert frame_of(fetched(record), "jobs")._replace(time=published.time) == published


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"id": None}, "no header 'id'"),
        ({"version": b"x"}, "whole number"),
        ({"version": b"-1"}, "whole number"),
        ({"version": b"1180591620717411303424"}, "whole number"),
        ({"time": b"soon"}, "isoformat"),
        ({"service": b"other"}, "sent by 'other'"),
        ({"stream": b"\xff"}, "utf-8"),
    ],
)
def test_what_is_no_event_says_why_and_where_and_is_kept(
    changed: dict[str, Any], words: str
) -> None:
    record = fetched(record_of(event(commit()), "jobs"), **changed)
    with pytest.raises(InvalidMessage, match=words) as refused:
        frame_of(record, "jobs")
    assert str(refused.value).startswith("jobs/1@7: ")
    kept = unreadable(record)
    assert (kept.body, kept.name) == (record.value, "Opened")
    numbers = [kept.headers.get(name) for name in ("version", "schema")]
    assert not any(isinstance(number, int) and number >= 2**31 for number in numbers)


def test_a_stream_has_the_partition_that_kafkas_own_clients_choose() -> None:
    choose, parts = DefaultPartitioner(), [*range(7)]
    for number in range(100):
        stream = f"job-{number}"
        assert partition_of(stream, 7) == choose(stream.encode(), parts, parts)


def test_a_url_says_how_brokers_are_reached() -> None:
    secured = connection("kafka://ada:p%40ss@one:9093,two:9093/?tls=true", "here")
    assert secured["bootstrap_servers"] == ["one:9093", "two:9093"]
    assert secured["security_protocol"] == "SASL_SSL"
    assert secured["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (secured["sasl_plain_username"], secured["sasl_plain_password"]) == ("ada", "p@ss")
    assert connection("kafka://one:9092", "here")["security_protocol"] == "PLAINTEXT"
    plain = connection("kafka://ada:b@one:9092/?mechanism=PLAIN", "here")
    assert (plain["security_protocol"], plain["sasl_mechanism"]) == ("SASL_PLAINTEXT", "PLAIN")


@pytest.mark.parametrize(
    "url",
    [
        "kafka://one:9092/?tls=false",
        "kafka://one:9092/?cafile=a.pem",
        "kafka://one:9092/?tls=true&keyfile=a.pem",
        "kafka://one:9092/?tls=true&tls=true",
        "kafka://a:b@one:9092/?mechanism=GSSAPI",
        "kafka://one:9092/?mechanism=PLAIN",
        "kafka://a:s3cret@one:9092,two",
        "kafka://a:s3cret@b@one:9092",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the URL") as refused:
        KafkaFeed("jobs", topic="jobs", url=url)
    assert "s3cret" not in str(refused.value)


def test_a_file_for_tls_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"cafile=/nowhere/ca\.pem cannot be read"):
        connection("kafka://one:9092/?tls=true&cafile=/nowhere/ca.pem", "here")


def test_a_url_may_come_from_a_function_which_each_connection_calls() -> None:
    passwords = iter(["first", "second"])
    topic = KafkaTopic("t", url=lambda: f"kafka://ada:{next(passwords)}@h:1")
    found = [connection(topic.url, "here")["sasl_plain_password"] for _ in range(2)]
    assert found == ["first", "second"]
    with pytest.raises(StoreUnavailable, match="as url= raises StopIteration; it is called again"):
        connection(topic.url, "here")
    with pytest.raises(ConfigurationError, match="the URL does not begin with kafka://"):
        connection(lambda: "http://h:1", "here")
    wrong: Any = lambda: None  # noqa: E731
    with pytest.raises(ConfigurationError, match=r"url= is text.*or a function that returns it"):
        connection(wrong, "here")


def test_settings_of_a_topic_are_texts_as_kafka_tells_them() -> None:
    some: dict[str, str | int] = {
        "min.insync.replicas": 2,
        "unclean.leader.election.enable": False,
        "a": "b",
    }
    topic = KafkaTopic("t", url="kafka://h:1", settings=some)
    assert topic.settings["min.insync.replicas"] == "2"
    assert topic.settings["unclean.leader.election.enable"] == "false"
    assert topic.settings["a"] == "b"
    wrong: Any = {"min.insync.replicas": None}
    with pytest.raises(ConfigurationError, match="give each a text"):
        KafkaTopic("t", url="kafka://h:1", settings=wrong)


def test_feeds_of_one_topic_are_one() -> None:
    one = KafkaFeed("jobs", topic="jobs", url="kafka://one:9092")
    assert one == KafkaFeed("jobs", topic="jobs", url="kafka://one:9092")
    assert one != KafkaFeed("jobs", topic="jobs", url="kafka://one:9092", group="other")
