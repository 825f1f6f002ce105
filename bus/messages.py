"""Commands, events and queries, and the envelope that carries one.

Does not know how a message travels or where it is stored.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar
from urllib.parse import parse_qsl, urlencode

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    PydanticUserError,
    ValidationError,
)
from pydantic_core import CoreSchema

from bus.common.exceptions import own
from bus.common.fingerprint import reason_of
from bus.common.signatures import name_of, with_article
from bus.data import payload
from bus.data.classes import check_names, check_upcast, unknown_options
from bus.data.fields import check_declared, is_plain, mixes_numbers, undescribed
from bus.data.flat import Kinds, flat_kinds
from bus.errors import ConfigurationError, InvalidMessage, NewerMessage

Answer_co = TypeVar("Answer_co", covariant=True)
AnyMessage = TypeVar("AnyMessage", bound="Message")

MOST_REASONS = 5
_BY_OPTION = {"wire_name": "name", "wire_schema": "schema", "former_names": "formerly"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")


class Message(BaseModel):
    """The base of commands, events and queries: an immutable pydantic model with a wire name.

    The wire name is the class name unless `name=` sets it. `schema=` is the version of the shape:
    raise it together with an `upcast` that turns older data into the current shape.

        class AccountOpened(Event, name="AccountOpened", schema=2): ...
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants")

    wire_name: ClassVar[str] = ""
    wire_schema: ClassVar[int] = 1
    wire_plain: ClassVar[bool] = False
    """Whether its schema alone guarantees that it is read back as it was written."""

    wire_flat: ClassVar[Kinds] = {}
    """The types of its fields, if all are written and read unchanged; otherwise empty."""

    wire_exact: ClassVar[bool] = False
    """Whether a number may be read as an integer or as a float."""

    former_names: ClassVar[tuple[str, ...]] = ()
    _set_in_body: ClassVar[Sequence[str]] = ()

    def __init_subclass__(cls, name: str = "", schema: int = 1, **kwargs: Any) -> None:
        try:
            super().__init_subclass__(**kwargs)
        except TypeError as error:
            if not kwargs:
                raise
            known = "name=, schema=, and of events formerly="
            raise unknown_options(cls, kwargs, known) from error
        cls._set_in_body = [attribute for attribute in _BY_OPTION if attribute in vars(cls)]
        if not (type(schema) is int and schema >= 1):
            raise ConfigurationError(
                f"{cls.__qualname__}: schema={schema!r}: give a whole number, 1 or more"
            )
        cls.wire_name = name or cls.__name__.partition("[")[0]
        cls.wire_schema = schema
        cls.former_names = ()
        _check_wire_name(cls, cls.wire_name)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        check_names(cls, Message)
        for attribute in cls._set_in_body:
            raise ConfigurationError(
                f"{cls.__qualname__}: {attribute} is set in its body, where nobody looks for it; "
                f"write class {cls.__name__}(..., {_BY_OPTION[attribute]}=...)"
            )
        check_upcast(cls)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Raises: ConfigurationError for a field of a type that pydantic does not know."""
        try:
            return handler(source)
        except PydanticUserError:
            fields = cls.__pydantic_fields__.items()
            kinds = ((name, field.rebuild_annotation()) for name, field in fields)
            raise ConfigurationError(f"{name_of(cls)}: {undescribed(kinds)}") from None

    @classmethod
    def upcast(cls, data: dict[str, Any], schema: int) -> dict[str, Any]:
        """Returns `data`, a copy, of an older `schema` in the current shape; override it for that,
        as in `return {"owner": data["name"]} if schema == 1 else data`."""
        return data

    @classmethod
    def wire_names(cls) -> tuple[str, ...]:
        """Returns the names under which it is read: its current one, then former ones."""
        return (cls.wire_name, *cls.former_names)


def _check_wire_name(cls: type[Message], name: str) -> None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ConfigurationError(
            f"{cls.__qualname__}: {name!r} is not a valid name for a message to travel "
            f"by; use letters, digits and underscores, 100 at most"
        )


class Stored(Message, name="Stored"):
    """The base of commands and events, which are stored and read back."""

    _is_checked: ClassVar[bool] = False
    _is_lasting: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.wire_plain = cls.wire_exact = cls._is_checked = False
        cls.wire_flat = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__pydantic_complete__:  # else it names types that are not defined yet
            cls._check_declared()

    @classmethod
    def _check_declared(cls) -> None:
        if not cls._is_checked:
            check_declared(cls.__pydantic_core_schema__, name_of(cls), lasting=cls._is_lasting)
            cls.wire_plain = is_plain(cls.__pydantic_core_schema__)
            cls.wire_flat = flat_kinds(cls.__pydantic_core_schema__)
            cls.wire_exact = mixes_numbers(cls.__pydantic_core_schema__)
            cls._is_checked = True


def check_stored(kind: type[Stored]) -> None:
    """Raises: ConfigurationError for a field that could not be read back, NameError for one whose
    type is not defined."""
    if not kind.__pydantic_complete__:
        kind.model_rebuild()
    kind._check_declared()


class Command(Stored):
    """A request to change something: named in the imperative, with exactly one handler."""

    model_config = ConfigDict(extra="forbid")

    _is_lasting: ClassVar[bool] = False


class Event(Stored):
    """A fact: named in the past tense, with any number of subscribers.

    Fields that this version of the class does not know are ignored, so that a newer publisher
    does not stop an older subscriber. `formerly=` lists its former wire names: events stored or
    sent under them are read as this class, and new ones get the new name.

        class AccountOpened(Event, formerly=["AccountCreated"]): ...
    """

    def __init_subclass__(
        cls, name: str = "", schema: int = 1, formerly: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init_subclass__(name=name, schema=schema, **kwargs)
        if not isinstance(formerly, list | tuple):
            raise ConfigurationError(
                f"{cls.__qualname__}: formerly={formerly!r} is not a list; write a list of names"
            )
        cls.former_names = tuple(formerly)
        for former in cls.former_names:
            _check_wire_name(cls, former)


class Query(Message, Generic[Answer_co]):
    """A request for data, with one handler, which changes nothing.

    `Query[JobView]` is answered with a JobView.
    """

    model_config = ConfigDict(extra="forbid")


class Fault(Event, name="Fault"):
    """Published by a worker when it gives a message up; the message itself becomes a dead letter.

    `subscription` is the queue whose handler failed, `error` the type of its last exception, and
    `dead_letter` the id under which the message is kept. `stream` and `version` are an event's
    place; a command has none. `data` is the message's data as it was stored or sent, with the
    schema `data_schema`; if it is None, `left_out` says why. The envelope of the `Fault` has the
    conversation's `correlation_id`, and the message's id again as `causation_id`.
    """

    message: str
    message_id: str
    subscription: str
    error: str
    reason: str
    attempts: int
    stream: str = ""
    version: int = 0
    data: dict[str, Any] | None = None
    data_schema: int = 1
    left_out: str = ""
    dead_letter: str = ""

    def original(self, kind: type[AnyMessage]) -> AnyMessage:
        """Returns the message that was given up, as an object of `kind`.

        Raises: InvalidMessage if its data was left out, belongs to another message or cannot be
        read; NewerMessage if a later release wrote it.
        """
        if self.message not in kind.wire_names():
            raise InvalidMessage(
                f"this Fault is about a message {self.message}, and not {kind.wire_name}; look at "
                f"its `message` first"
            )
        if self.data is None:
            why = self.left_out or "its release included none"
            raise InvalidMessage(
                f"this Fault has no data of the {self.message} ({why}); "
                f"`bus deadletters show` has the message, {self.dead_letter or self.message_id}"
            )
        return read_data(kind, self.data, self.data_schema)


def read_data(
    kind: type[AnyMessage], data: Any, schema: int, reasons: int = MOST_REASONS
) -> AnyMessage:
    """Reads data as a message of `kind`, upcast. Raises: InvalidMessage, NewerMessage."""
    if schema > kind.wire_schema:
        raise NewerMessage(
            f"{kind.wire_name}: it is of schema {schema}, and the class here is of schema "
            f"{kind.wire_schema}; deploy the release of the code that knows schema {schema}"
        )
    try:
        if not kind.wire_plain:
            data = payload.plain_integers(data)
        if schema < kind.wire_schema:
            data = _upcast(kind, data, schema)
        valid: AnyMessage = kind.__pydantic_validator__.validate_python(data, strict=False)
        return valid
    except BaseException as error:
        if not own(error):
            raise
        older = f", schema {schema}" if schema < kind.wire_schema else ""
        raise invalid(kind, error, older, reasons) from None


def _upcast(kind: type[Message], data: Any, schema: int) -> dict[str, Any]:
    made = kind.upcast(dict(data), schema)
    if not isinstance(made, dict):
        raise InvalidMessage(
            f"{kind.wire_name}, schema {schema}: upcast() returned {type(made).__name__}; let it "
            f"return the data, as a dict"
        )
    return made


def invalid(
    kind: type[Message], error: BaseException, place: str = "", reasons: int = MOST_REASONS
) -> InvalidMessage | NewerMessage:
    """Describes where and why reading failed, without values, because logs must hold no payload.

    Anything that an author's validators and upcasts raise means that the message is wrong. If only
    unknown fields are wrong, a later release may know them: then it is a NewerMessage.
    """
    if isinstance(error, InvalidMessage):
        return error
    if not isinstance(error, ValidationError):
        return InvalidMessage(f"{kind.wire_name}{place}: {type(error).__name__}")
    reason = f"{kind.wire_name}: {reason_of(error, reasons)}"
    if _has_more(error):
        return NewerMessage(f"{reason}; deploy the release of the code whose class has such fields")
    return InvalidMessage(reason)


def _has_more(error: ValidationError) -> bool:
    details = error.errors(include_input=False, include_url=False, include_context=False)
    return all(detail["type"] == "extra_forbidden" for detail in details)


class Envelope(NamedTuple):
    """A message with its identity.

    `stream` and `version` are set for events only; versions count 1, 2, 3 ... in each stream.
    `correlation_id` is shared by the whole conversation, `causation_id` is the id of the message
    that caused this one. `headers` hold short strings, among them `traceparent` (W3C trace
    context). `digest` tells a repeat of a command from another command with the same id.
    """

    message: Message
    id: str
    time: datetime
    correlation_id: str
    causation_id: str | None = None
    stream: str = ""
    version: int = 0
    headers: Mapping[str, str] = {}
    digest: str = ""

    @property
    def name(self) -> str:
        """The wire name of the message."""
        return self.message.wire_name


class Receipt(NamedTuple):
    """The outcome of a command: its id, the stream versions it wrote, and the handler's result."""

    id: str
    versions: Mapping[str, int]
    result: Any = None

    @property
    def token(self) -> str:
        """The versions as a short text for an HTTP header; `from_token` reads it back.

        It has about 45 bytes per stream that the command wrote; many servers and proxies accept
        headers of up to 8 KiB.
        """
        return urlencode(dict(self.versions))

    @classmethod
    def from_token(cls, token: str) -> Self:
        """Returns a receipt with the versions of a token and no id.

        Raises: InvalidMessage if the text is not a token.
        """
        try:
            if not isinstance(token, str):
                raise ValueError
            pairs = parse_qsl(token, strict_parsing=True) if token else []
            return cls("", {stream: _version_in(version) for stream, version in pairs})
        except ValueError:
            raise InvalidMessage(
                f"{token!r:.100} is not the token of a receipt; give the text of `receipt.token` "
                f"unchanged"
            ) from None


def is_event(kind: Any) -> bool:
    """Returns whether `kind` is a class of events."""
    return isinstance(kind, type) and issubclass(kind, Event) and kind is not Event


def check_kind(kind: type, base: type[Message], doing: str) -> None:
    """Raises: InvalidMessage if a message of this type is not of the base that `doing` takes."""
    if not issubclass(kind, base):
        raise InvalidMessage(f"{doing} takes {with_article(base.__name__)}, {_instead(kind)}")


def _instead(kind: type) -> str:
    """Describes what was given, and what to do with it."""
    if issubclass(kind, type):
        return "and this is a class: make an object of it, as in OpenAccount(...)"
    for other, remedy in _WAYS.items():
        if issubclass(kind, other):
            return f"and {kind.__name__} is {with_article(other.__name__)}: {remedy}"
    return f"and this is of type {kind.__name__}"


_WAYS: dict[type[Message], str] = {
    Command: "give it to bus.execute(...), send(...) or request(...)",
    Event: "let an aggregate record it, or give it to bus.publish(...)",
    Query: "give it to bus.query(...) or watch(...)",
}


def to_wait_for(receipt: Receipt) -> Mapping[str, int]:
    """Returns the versions of a receipt given as `after=`. Raises: InvalidMessage."""
    if not isinstance(receipt, Receipt):
        raise InvalidMessage(
            f"after= takes a Receipt, and this is of type {type(receipt).__name__}; "
            f"Receipt.from_token(...) makes one of a receipt's token"
        )
    return receipt.versions


def _version_in(text: str) -> int:
    version = int(text)
    if not 0 <= version < 2**63:
        raise ValueError(f"{text[:20]} is not a valid version")
    return version
