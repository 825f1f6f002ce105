"""TLS to PostgreSQL and MariaDB: what is let in, what is kept out, and what is told of it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from bus import ConfigurationError, StoreUnavailable
from bus.stores.sink import Increment
from bus.stores.sql import SqlEventLog, SqlTable, connect
from bus.stores.sql.engine import transacting
from bus.stores.sql.tables.place import TablePlace
from bus.testing.contracts.sink_contract import changes
from tests.contract.test_sql_tables import jobs
from tests.fault.certificates import Certificates
from tests.fault.test_table_faults import ROWS
from tests.servers import lent
from tools.services.other_user import make_place
from tools.services.sql_node import SQLNode


@pytest.fixture(scope="module")
def server(
    sql_kind: type[SQLNode], certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SQLNode]:
    """A server with a certificate, whose key only its own user may read."""
    if sql_kind.label == "MySQL":
        pytest.skip("MySQL runs in a root of its own, which does not see the certificates")
    place = make_place(tmp_path_factory.mktemp("files"), sql_kind.user)
    for file in (certificates.server, certificates.authority):
        copy = Path(shutil.copy(file, place))
        copy.chmod(0o600)
        shutil.chown(copy, *place_owner(place))
    flags = flags_of(
        sql_kind, place / certificates.server.name, place / certificates.authority.name
    )
    with lent(sql_kind(tmp_path_factory.mktemp("sql"), flags=flags)) as node:
        yield node
    shutil.rmtree(place)


def place_owner(place: Path) -> tuple[int, int]:
    found = place.stat()
    return found.st_uid, found.st_gid


def flags_of(kind: type[SQLNode], certificate: Path, authority: Path) -> tuple[str, ...]:
    if kind.label == "PostgreSQL":
        options = {"cert": certificate, "key": certificate, "ca": authority}
        files = [f"ssl_{name}_file={path}" for name, path in options.items()]
        return tuple(word for option in ("ssl=on", *files) for word in ("-c", option))
    return (f"--ssl-cert={certificate}", f"--ssl-key={certificate}", f"--ssl-ca={authority}")


@pytest.fixture
def url(server: SQLNode, unique: str) -> Iterator[str]:
    yield server.create_database(unique)
    server.drop_database(unique)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(url)
    log = SqlEventLog(engine)
    try:
        await log.open()
        yield engine
    finally:
        await log.close()
        await engine.dispose()


async def encrypted(engine: AsyncEngine) -> bool:
    """Whether the server says so."""
    asked = (
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        if engine.dialect.name == "postgresql"
        else "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
    )
    async with engine.connect() as connection:
        return bool((await connection.execute(sa.text(asked))).one()[-1])


async def test_a_log_is_reached_by_tls_if_the_certificate_is_good(
    url: str, certificates: Certificates
) -> None:
    async with opened(f"{url}?cafile={certificates.authority}") as engine:
        assert await encrypted(engine)
        own = transacting(engine)
        assert await encrypted(own), "that of handlers' sessions"
        await own.dispose()


async def test_a_table_is_written_by_tls_or_not_at_all(
    url: str, certificates: Certificates, unique: str
) -> None:
    sink = SqlTable(jobs(), url=f"{url}?cafile={certificates.authority}")
    stranger = SqlTable(jobs(), url=f"{url}?cafile={certificates.stranger}").place("service")
    place = sink.place("service")
    assert isinstance(place, TablePlace)
    try:
        await place.prepare(ROWS)
        assert await place.write(ROWS, changes(("a", Increment(count=1)), a=1), {"job-a": 0})
        assert await encrypted(place._database.engine)
        with pytest.raises(StoreUnavailable, match="check that cafile= is the authority"):
            await stranger.versions(ROWS, ["job-a"])
    finally:
        await place.close()
        await stranger.close()


async def test_a_certificate_of_ours_is_shown(
    server: SQLNode, url: str, certificates: Certificates
) -> None:
    shown = f"{url}?tls=true&cafile={certificates.authority}&certfile={certificates.client}"
    if server.label == "PostgreSQL":
        async with opened(shown) as engine, engine.connect() as connection:
            asked = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert (await connection.execute(sa.text(asked))).scalar_one()
        return
    server.sql("CREATE USER own@'%' REQUIRE X509", "GRANT ALL ON *.* TO own@'%'")
    async with opened(shown.replace("root@", "own@")) as engine:
        assert await encrypted(engine)
    with pytest.raises(StoreUnavailable, match="1045"):
        async with opened(f"{url}?cafile={certificates.authority}".replace("root@", "own@")):
            pass


@pytest.mark.parametrize(
    ("host", "authority", "why"),
    [
        ("127.0.0.1", "stranger", "CERTIFICATE_VERIFY_FAILED.*self-signed"),
        ("127.0.0.1", "", "CERTIFICATE_VERIFY_FAILED"),
        ("localhost", "authority", "Hostname mismatch.*not valid for 'localhost'"),
    ],
)
async def test_a_server_is_kept_out(
    url: str, certificates: Certificates, host: str, authority: str, why: str
) -> None:
    trusts = f"cafile={getattr(certificates, authority)}" if authority else "tls=true"
    place = f"{url}?{trusts}".replace("127.0.0.1", host)
    with pytest.raises(StoreUnavailable, match=f"(?s){why}.*check that cafile= is the authority"):
        async with asyncio.timeout(60), opened(place):
            pass


async def test_a_server_without_tls_gets_nothing(sql_url: str, certificates: Certificates) -> None:
    """MySQL makes itself a certificate, which nobody signed."""
    with pytest.raises(StoreUnavailable, match=r"SSL upgrade|offers no TLS|VERIFY_FAILED"):
        async with opened(f"{sql_url}?cafile={certificates.authority}"):
            pass


async def test_a_file_that_cannot_be_read_is_named(
    certificates: Certificates, tmp_path: Path
) -> None:
    place = "mysql+aiomysql://user:secret@h/jobs"
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for options, named in (
        ("cafile=/no/such.pem", r"cafile=/no/such\.pem cannot be read \(No such file"),
        (f"cafile={wrong}", r"cafile=.*wrong\.pem cannot be read \(it holds none"),
        (f"certfile={certificates.client}&keyfile=/no/key", r"keyfile=/no/key\) cannot be read"),
    ):
        with pytest.raises(ConfigurationError, match=named) as caught:
            async with opened(f"{place}?{options}"):
                pass
        assert "secret" not in str(caught.value)
