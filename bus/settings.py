"""Settings: one frozen object, read from the environment, validated whole."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Literal, Self, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus.common.urls import (
    AMQP_SCHEMES,
    HTTP_SCHEMES,
    MONGO_SCHEMES,
    has_database,
    problem_of,
    problem_of_log,
)
from bus.errors import ConfigurationError
from bus.observe.log import LogLevel

MEMORY = "memory://"
UNSET = "unset"
"""The type of the problem that a value is missing which the other settings make needed."""
_MISSING = frozenset({"missing", UNSET})

_SECRET = frozenset({"amqp_url", "mongo_url", "log_url", "management_url", "signing_secret"})
_SECONDS = frozenset(
    {"heartbeat", "sweep_every", "handled_for", "gap_within", "compare_every", "release_within",
     "stop_within", "sentinel_every", "facts_every"}
)  # fmt: skip
_NOT_IN_A_NAME = frozenset('/\\. "$*<>:|?\0')
NOT_FOR_DATA = frozenset({"admin", "config", "local"})


class Settings(BaseSettings):
    """The addresses of the broker and the database, and the few figures in which services differ.

    Each field is read from the environment variable `BUS_<FIELD>`, for example `BUS_AMQP_URL`.
    Durations are in seconds.

    Raises: ConfigurationError, listing all problems at once.
    """

    model_config = SettingsConfigDict(
        env_prefix="BUS_", frozen=True, extra="forbid", allow_inf_nan=False
    )

    amqp_url: str = Field(
        repr=False,
        description="amqp[s]://user:password@host:port/vhost; several separated by commas",
    )
    log_url: str = Field(
        default="",
        repr=False,
        description="postgresql+asyncpg://user:password@host:port/database, or mysql+aiomysql: "
        "where the event log is, if it is not in MongoDB",
    )
    mongo_url: str = Field(
        default="",
        validate_default=True,
        repr=False,
        description="mongodb://host:port/?replicaSet=name",
    )
    mongo_db: str = Field(
        default="",
        validate_default=True,
        description="the database; the service's name by default",
    )
    declare: Literal["always", "never"] = Field(
        default="always",
        description="never: another user declares the queues and exchanges, and makes the tables "
        "of a log in SQL; what is missing is reported",
    )
    management_url: str = Field(
        default="",
        repr=False,
        description="http[s]://user:password@host:15672: RabbitMQ's management API, by which "
        "`bus topology plan` sees policies, bindings and what nobody declares",
    )
    heartbeat: int = Field(default=7, ge=2, le=60)
    prefetch: int = Field(default=2000, ge=1, le=10_000)
    batch: int = Field(default=1000, ge=1, le=10_000)
    sweep_every: float = Field(default=60.0, gt=0)
    handled_for: int = Field(
        default=14 * 24 * 3600,
        ge=60,
        lt=2**31,
        description="how long an event that a handler with a Session handled is remembered",
    )
    gap_within: float = Field(
        default=30.0,
        gt=0,
        description="how long a missing event of another service is waited for before it is asked "
        "for, and as long again before its stream is parked",
    )
    compare_every: float = Field(
        default=300.0,
        gt=0,
        description="how often another service is asked what of its history is missing here",
    )
    signing_secret: str = Field(
        default="",
        repr=False,
        description="mixed into the key that signs this service's events, which its database "
        "keeps; the same for all its processes",
    )
    check_events: Literal["signature", "log"] = Field(
        default="signature",
        description="how a worker knows events of its own service: by their signature, and by the "
        "log where they have none; or each by the log",
    )
    release_within: float = Field(
        default=24 * 3600,
        ge=0,
        description="how long a message that this release cannot read waits for one that can",
    )
    stop_within: float = Field(default=25.0, gt=0)
    sentinel_every: float = Field(default=10.0, gt=0)
    health_host: str = Field(default="127.0.0.1", min_length=1)
    health_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="where a worker or relay answers /livez, /readyz and /metrics; 0: off",
    )
    log_level: LogLevel = Field(
        default="INFO", description="the lowest level that `bus worker` and `bus relay` log"
    )

    telemetry: Literal["auto", "never"] = Field(
        default="auto",
        description="auto: traces and metrics where this process has set up OpenTelemetry, and "
        "metrics at the health port; never: none",
    )
    trace_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="the part of the commands and messages to which no trace came that begin one",
    )
    facts_every: float = Field(
        default=15.0,
        gt=0,
        description="how often one process of the service measures backlogs, lags and queues",
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = "".join(f"\n  {problem}" for problem in _problems(error))
            raise ConfigurationError(
                f"the settings are not as they must be:{problems}{_how_to_set(error)}"
            ) from None

    @classmethod
    def in_memory(cls, **values: Any) -> Self:
        """Returns settings that need no servers, for tests and trying things out: all stays in
        this process, and is lost with it. A `BUS_LOG_URL` in the environment is passed over."""
        return cls(amqp_url=MEMORY, mongo_url=MEMORY, **{"log_url": "", **values})

    def named(self, service: str) -> str:
        """Returns the name a service runs under: its own. Tests on real servers override this, so
        that they do not meet each other."""
        return service

    @field_validator("amqp_url")
    @classmethod
    def _amqp(cls, value: str) -> str:
        return _checked(value, value.split(","), AMQP_SCHEMES)

    @field_validator("mongo_url")
    @classmethod
    def _mongo(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            if info.data.get("log_url"):
                return value
            raise PydanticCustomError(UNSET, "")
        return _checked(value, [value], MONGO_SCHEMES)

    @field_validator("management_url")
    @classmethod
    def _management(cls, value: str) -> str:
        return _checked(value, [value], HTTP_SCHEMES) if value else value

    @field_validator("log_url")
    @classmethod
    def _log(cls, value: str) -> str:
        if value and (problem := problem_of_log(value)):
            raise ValueError(f"the URL {problem}")
        return value

    @field_validator("mongo_db")
    @classmethod
    def _database(cls, value: str, info: ValidationInfo) -> str:
        if not value and has_database(info.data.get("mongo_url", "")):
            raise ValueError(
                "is not set, while BUS_MONGO_URL names a database after the host, which MongoDB "
                "takes for authentication only: set BUS_MONGO_DB to the database for this "
                "service's data, or put ?authSource=NAME in the place of the one in the URL, and "
                "the data goes into the database that is named as the service"
            )
        if found := sorted(_NOT_IN_A_NAME & set(value)):
            raise ValueError(f"the name of a database holds no {found[0]!r}")
        if len(value.encode(errors="replace")) > 63 or value in NOT_FOR_DATA:
            raise ValueError(
                f"the name of a database has 63 bytes at most, and is none of MongoDB's own: "
                f"{', '.join(sorted(NOT_FOR_DATA))}"
            )
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _level(cls, value: object) -> object:
        upper = value.upper() if isinstance(value, str) else value
        return upper if upper in get_args(LogLevel) else value

    @property
    def amqp_urls(self) -> tuple[str, ...]:
        """The URLs in `amqp_url`, one for each broker."""
        return tuple(url.strip() for url in self.amqp_url.split(","))


def _checked(value: str, urls: list[str], schemes: tuple[str, ...]) -> str:
    for url in urls:
        if url.strip() != MEMORY and (problem := problem_of(url.strip(), schemes)):
            raise ValueError(f"the URL {problem}")
    return value


def _problems(error: ValidationError) -> Iterator[str]:
    """Yields a line for each problem, without values that may hold a password."""
    for detail in error.errors(include_url=False):
        name, value = str(detail["loc"][0]), detail["input"]
        if detail["type"] == "extra_forbidden":  # its value may be a secret
            yield f"{name}: {_no_such(name)}"
            continue
        shown = name not in _SECRET and detail["type"] not in _MISSING and value != ""
        given = f"={value!s:.100}" if shown else ""
        yield f"BUS_{name.upper()}{given}: {_reason(name, detail)}"


def _no_such(name: str) -> str:
    near = get_close_matches(name.lower().removeprefix("bus_"), Settings.model_fields, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"there is no such setting{meant} (there are {', '.join(Settings.model_fields)})"


def _reason(name: str, detail: Any) -> str:
    if detail["type"] in _MISSING:
        return f"is not set; write {Settings.model_fields[name].description}"
    reason: str = detail["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return f"{reason[:1].lower()}{reason[1:]}{' (seconds)' if name in _SECONDS else ''}"


def _how_to_set(error: ValidationError) -> str:
    if all(detail["type"] not in _MISSING for detail in error.errors()):
        return ""
    return (
        "\nset these environment variables, or give Settings(...) the values by name; "
        "Settings.in_memory() needs no servers"
    )
