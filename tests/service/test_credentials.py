"""What goes wrong with broker and database never shows the password that is in their URLs."""

import asyncio
import io
import logging
import traceback
from collections.abc import Callable, Iterator

import pytest
import structlog

from bus import Bus, BusError, ConfigurationError, Settings
from bus.transports.rabbitmq import RabbitTransport
from tests.service.wallet import build
from tests.waiting import patience
from tools.services.ports import free_ports

SECRET = "Xq7-4711-Zw9"


Said = Callable[[], str]


@pytest.fixture
def everything_said(capfd: pytest.CaptureFixture[str]) -> Iterator[Said]:
    """All that any library logs, at its most talkative, and all that is printed."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    structlog.reset_defaults()
    printed: list[str] = []

    def so_far() -> str:
        printed.extend(capfd.readouterr())
        return said.getvalue() + "".join(printed)

    yield so_far
    root.removeHandler(handler)
    root.setLevel(before)


def with_secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://someone:{SECRET}@{rest.rpartition('@')[2]}"


@pytest.fixture
def nowhere() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


async def told_by(bus: Bus) -> str:
    """The error with which it opens, traceback and all, or nothing."""
    try:
        async with bus:
            return ""
    except BusError as error:
        return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("fault", ["wrong password", "host away", "no TLS there"])
async def test_a_brokers_password_is_never_shown(
    fault: str, amqp_url: str, nowhere: str, unique: str, everything_said: Said
) -> None:
    url = with_secret(f"amqp://{nowhere}/" if fault == "host away" else amqp_url)
    if fault == "no TLS there":
        url = url.replace("amqp://", "amqps://")
    transport = RabbitTransport([url], service=unique, connect_timeout=0.3)
    with pytest.raises(BusError) as raised:
        await transport.open()
    await transport.close()
    settings = Settings(amqp_url=url, mongo_url="mongodb://h/")
    said = everything_said()
    assert "Connecting to: amqp" in said  # the library's own words
    assert "rabbitmq_away" in said
    told = "".join(traceback.format_exception(raised.value))
    assert SECRET not in f"{said}{told}{settings!r}{settings}{transport!r}"


async def test_a_databases_password_is_never_shown(
    mongo_url: str, nowhere: str, unique: str, everything_said: Said
) -> None:
    wrong = with_secret(mongo_url)
    urls = [wrong, with_secret(f"mongodb://{nowhere}/"), f"{wrong}&tls=true"]
    each = [Settings(amqp_url="amqp://h/", mongo_url=url, mongo_db=unique) for url in urls]
    buses = [build(settings) for settings in each]
    told = await asyncio.gather(*map(told_by, buses))
    # A machine with much to do may be too late to be refused.
    async with asyncio.timeout(60 * patience()):
        while "Authentication" not in "".join(told):
            told.append(await told_by(build(each[0])))
    assert all("MongoDB" in one for one in told)
    shown = f"{each!r}{[bus.runtime for bus in buses]!r}{told!r}"
    assert SECRET not in shown + everything_said()


async def test_the_password_of_a_log_in_sql_is_never_shown(
    sql_url: str, nowhere: str, unique: str, everything_said: Said
) -> None:
    wrong = with_secret(sql_url)
    away = wrong.replace(wrong.rpartition("@")[2].partition("/")[0], nowhere)
    urls = [wrong, away, f"{wrong}?tls=true", f"{wrong}?cafile=/no/such"]
    each = [Settings(amqp_url="memory://", mongo_url="", log_url=url) for url in urls]
    told = [await told_by(Bus(unique, settings=settings)) for settings in each]
    for said, why in zip(told, ["BUS_LOG_URL", "running", "cafile=", "/no/such"], strict=True):
        assert why in said
    for option in ("sslmode=require", "tls=no"):
        with pytest.raises(ConfigurationError) as caught:
            Settings(amqp_url="memory://", log_url=f"{wrong}?{option}")
        told.append(str(caught.value))
    assert SECRET not in f"{each!r}{told!r}{everything_said()}"
