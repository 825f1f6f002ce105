"""What tells a repeated command from another one, in every process and in the next release."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import Field

from bus import Command
from bus.codec import digest_of


class Order(Command):
    order_id: str
    lines: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    by_name: Mapping[str, int] = Field(default={})
    at: datetime | None = None


class Listed(Command):
    lines: list[str]


def next_release() -> type[Command]:
    """The same command with one more field, that has a default."""

    class Order(Command):
        order_id: str
        lines: tuple[str, ...] = ()
        tags: frozenset[str] = frozenset()
        by_name: Mapping[str, int] = Field(default={})
        at: datetime | None = None
        note: str = ""

    return Order


def order(kind: type[Any] = Order, **fields: Any) -> str:
    return digest_of(kind(order_id="o1", **fields))


def test_equal_commands_have_one_digest_whatever_order_their_parts_came_in() -> None:
    assert order(by_name={"a": 1, "b": 2}) == order(by_name={"b": 2, "a": 1})
    assert order(tags=frozenset("abc")) == order(tags=frozenset("cba"))
    assert digest_of(Order.model_validate_json('{"tags":["b","a"],"order_id":"o1"}')) == order(
        tags=frozenset("ab")
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"lines": ("a",)},
        {"tags": frozenset("a")},
        {"by_name": {"a": 1}},
        {"at": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_other_content_has_another_digest(fields: dict[str, Any]) -> None:
    assert order(**fields) != order()


def test_lists_are_compared_in_their_order() -> None:
    assert digest_of(Listed(lines=["a", "b"])) != digest_of(Listed(lines=["b", "a"]))


def test_a_release_that_adds_a_field_with_a_default_agrees() -> None:
    assert order(next_release()) == order()
    assert order(next_release(), note="x") != order()
