"""A command's result: what the first caller got is what each repeat gets."""

import sys
import typing
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NamedTuple, Never, NoReturn

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, computed_field

from bus import (
    Bus,
    ConfigurationError,
    InvalidMessage,
    Query,
    Receipt,
    RemoteError,
    Repository,
    ResultUnreadable,
    Router,
    Settings,
    Worker,
)
from bus.dispatch.results import Results
from tests.unit.accounts import Account, Open, open_account


class Ask(Query[Any]):
    pass


class Balance(BaseModel):
    model_config = ConfigDict(extra="forbid")

    amount: Decimal = Field(alias="balanceAmount")
    asked_for: str = Field("", serialization_alias="for", validation_alias=AliasChoices("for"))
    kept: set[int] = set()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> Decimal:
        return 2 * self.amount


@dataclass
class Sum:
    amount: Decimal


class InBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    seal: bytes = b"\xff"


class Pair(NamedTuple):
    first: int
    second: str


RESULTS: list[tuple[Any, Any]] = [
    (Balance, Balance(balanceAmount=Decimal("1.50"), kept={3})),
    (list[Balance] | None, [Balance(balanceAmount=Decimal(2))]),
    (Sum, Sum(Decimal("0.1"))),
    (Pair, Pair(1, "a")),
    (tuple[int, ...], (1, 2)),
    (dict[int, date], {1: date(2026, 1, 1)}),
    (uuid.UUID, uuid.uuid4()),
    (list[InBase64], [InBase64()]),
    (timedelta, timedelta(seconds=1.5)),
    (None, {"a": [1, None, 2.5]}),
]


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize(("returns", "result"), RESULTS)
async def test_a_repeat_gets_the_very_result_of_the_first_time(
    returns: Any, result: Any, changes: bool, queued: bool
) -> None:
    async def handler(command: Open, repository: Repository[Account]) -> Any:
        if changes:
            await open_account(command, repository)
        return result

    handler.__annotations__.pop("return")
    if returns is not None:
        handler.__annotations__["return"] = returns
    router = Router("results")
    router.command(handler)
    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        if queued:
            async with Worker(bus):
                found = [await bus.request(Open(account_id="a"), id="k") for _ in range(2)]
        else:
            found = [await bus.execute(Open(account_id="a"), id="k") for _ in range(2)]
    assert [(type(one.result), one.result) for one in found] == [(type(result), result)] * 2


@pytest.mark.parametrize("result", [(1, 2), {1}, Sum(Decimal(1)), date(2026, 1, 1)])
async def test_a_result_that_a_repeat_would_get_otherwise_is_refused(result: Any) -> None:
    router = Router("odd")

    @router.command
    async def odd(command: Open, repository: Repository[Account]) -> Any:
        repository.add(Account(command.account_id))
        return result

    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        with pytest.raises(
            InvalidMessage, match=f"cannot be stored as .*is of type {type(result).__name__}"
        ):
            await bus.execute(Open(account_id="a"), id="k")


@pytest.mark.parametrize(
    ("returns", "result"),
    [
        (deque[int], deque([1, 2], maxlen=2)),
        (defaultdict[str, int], defaultdict(lambda: 7, a=1)),
    ],
)
async def test_a_result_that_equals_what_a_repeat_would_get_and_is_another_is_refused(
    returns: Any, result: Any
) -> None:
    async def handler(command: Open) -> Any:
        return result

    handler.__annotations__["return"] = returns
    router = Router("odd")
    router.command(handler)
    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        with pytest.raises(InvalidMessage, match=r"cannot be stored as .*: it (has|would be)"):
            await bus.execute(Open(account_id="a"))


class Sealed(BaseModel):
    seal: bytes


UNWRITTEN: list[tuple[Any, Any, str]] = [
    (bytes, b"\xff", "bytes': .*declare a field of bytes of a pydantic model, with model_config"),
    (list[bytes], [b"a", b"\xff"], "bytes.': 1: .*declare a field of bytes of a pydantic model"),
    (
        Sealed,
        Sealed(seal=b"\xff"),
        "Sealed': seal: .* a field of bytes in Sealed, with model_config",
    ),
    (None, {"a": [object()]}, "without an annotation: a.0: Unable to serialize unknown type: "),
]


@pytest.mark.parametrize(("returns", "result", "told"), UNWRITTEN)
async def test_a_result_that_cannot_be_written_is_refused_with_its_place(
    returns: Any, result: Any, told: str
) -> None:
    router = handling(returns, result)
    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        with pytest.raises(InvalidMessage, match=f"cannot be stored as .*{told}"):
            await bus.execute(Open(account_id="a"))


@pytest.mark.parametrize("queued", [False, True])
async def test_a_result_of_another_release_says_that_the_command_was_carried_out(
    monkeypatch: pytest.MonkeyPatch, queued: bool
) -> None:
    before, after = Router("before"), Router("after")

    @before.command
    async def opening(command: Open, repository: Repository[Account]) -> int:
        await open_account(command, repository)
        return 5

    @after.command
    async def listing(command: Open) -> list[str]:
        return []

    async with Bus("bank", routers=[before], settings=Settings.in_memory()) as bus, Worker(bus):
        ask = bus.request if queued else bus.execute
        first = await ask(Open(account_id="a"), id="k")
        kept: dict[Any, Results] = {**bus.runtime.dispatcher._results}
        kept[Open] = Results(after.handlers[0])
        monkeypatch.setattr(bus.runtime.dispatcher, "_results", kept)
        with pytest.raises(ResultUnreadable, match="k was carried out, but its result") as told:
            await ask(Open(account_id="a"), id="k")
        assert await bus.runtime.control.dead_letters() == []
    assert told.value.receipt == first


async def test_a_result_that_a_release_before_wrote_by_names_is_read() -> None:
    router = Router("results")

    @router.command
    async def balance(command: Open) -> Balance:
        raise NotImplementedError

    kept = Receipt("k", {}, {"amount": "1.50", "asked_for": "Ada", "kept": []})
    read = Results(router.handlers[0]).read(kept)
    assert read.result == Balance.model_validate({"balanceAmount": "1.50", "for": "Ada"})


async def test_an_unreadable_result_of_another_command_is_the_handlers_own_error() -> None:
    """What a handler's own call raises says nothing of the command that it was to carry out."""
    router = Router("asking")

    @router.command
    async def asking(command: Open) -> None:
        raise ResultUnreadable("of another command", Receipt("other", {}, 5))

    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus, Worker(bus):
        with pytest.raises(RemoteError, match="ResultUnreadable: of another command"):
            await bus.request(Open(account_id="a"), id="k")
        assert await bus.runtime.event_log.find("k") == []


class Undescribed: ...


class Hidden(BaseModel):
    pin: SecretStr


class Status(Enum):
    OPEN = "open"


@dataclass
class Holding:
    held: list[Undescribed]


class OldDict(typing.TypedDict):
    held: int


REFUSED: list[tuple[Any, str]] = [
    (Undescribed, "it is Undescribed, which pydantic can neither write nor read; make it a"),
    (list[Undescribed] | None, "it is Undescribed, which pydantic can neither write nor read"),
    (Holding, "held is Undescribed, which pydantic can neither write nor read"),
    (Iterator[int], "it is .*Iterator.*, which pydantic can neither write nor read"),
    (Iterable[int], "it can be gone through only once; declare it as list"),
    (SecretStr, "it is a secret of pydantic's"),
    (Hidden, "pin is a secret of pydantic's"),
    (Literal[Status.OPEN], "it is a Literal of Status.OPEN, which is written as its value"),
]
if sys.version_info < (3, 12):
    REFUSED.append((OldDict, "it is OldDict, a TypedDict of typing, .* that of typing_extensions"))


def handling(returns: Any, result: Any = None) -> Router:
    router = Router("results")

    async def handle(command: Open) -> Any:
        return result

    handle.__annotations__.pop("return")
    if returns is not None:
        handle.__annotations__["return"] = returns
    router.command(handle)
    return router


@pytest.mark.parametrize(("returns", "told"), REFUSED)
def test_a_result_that_no_repeat_could_get_is_refused_at_the_decorator(
    returns: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"handle, what it returns: {told}"):
        handling(returns)


@pytest.mark.parametrize("returns", [NoReturn, Never, None])
async def test_a_handler_that_never_returns_is_as_one_that_returns_none(returns: Any) -> None:
    router = Router("never")

    async def never(command: Open) -> Any:
        raise LookupError("never")

    never.__annotations__["return"] = returns
    router.command(never)
    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        with pytest.raises(LookupError):
            await bus.execute(Open(account_id="a"))


class Early(BaseModel):
    late: "Late"


early = handling(Early)


class Late(BaseModel):
    amount: int


async def test_a_result_may_name_what_comes_later() -> None:
    router = Router("late")

    @router.command
    async def handle(command: Open) -> Early:
        return Early(late=Late(amount=1))

    for one in (early, router):
        async with Bus("bank", routers=[one], settings=Settings.in_memory()) as bus:
            found = await bus.execute(Open(account_id="a"))
            assert found.result == (None if one is early else Early(late=Late(amount=1)))


class NeverThere(BaseModel):
    late: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


def test_a_result_that_names_what_never_comes_is_refused_with_the_bus() -> None:
    with pytest.raises(
        ConfigurationError,
        match="handle, what it returns: its type is not complete: name 'Nowhere' is not defined",
    ):
        Bus("bank", routers=[handling(NeverThere)], settings=Settings.in_memory())


@pytest.mark.parametrize("returns", [Undescribed, NoReturn])
async def test_a_querys_answer_is_whatever_it_is(returns: Any) -> None:
    """It is written nowhere."""
    router, answer = Router("asking"), Undescribed()

    async def ask(query: Ask) -> Any:
        return answer

    ask.__annotations__["return"] = returns
    router.query(ask)
    async with Bus("bank", routers=[router], settings=Settings.in_memory()) as bus:
        assert await bus.query(Ask()) is answer
