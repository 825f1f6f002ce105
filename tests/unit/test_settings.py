import logging
import re
import traceback
from pathlib import Path
from typing import Any

import pytest

import bus
from bus import Bus, ConfigurationError, Settings
from bus.observe import log


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_AMQP_URL", "amqp://a/, amqps://b/")
    monkeypatch.setenv("BUS_MONGO_URL", "mongodb://c/")
    monkeypatch.setenv("BUS_BATCH", "7")
    settings = Settings()
    assert settings.amqp_urls == ("amqp://a/", "amqps://b/")
    assert settings.batch == 7


def test_every_problem_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUS_AMQP_URL", raising=False)
    monkeypatch.setenv("BUS_MONGO_URL", "postgres://user:secret@c/")
    monkeypatch.setenv("BUS_HEARTBEAT", "0")
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    told = str(caught.value)
    assert "BUS_AMQP_URL: is not set; write amqp[s]://user:password@host" in told
    assert "BUS_MONGO_URL: the URL must begin with mongodb://" in told
    assert "BUS_HEARTBEAT=0: must be greater than" in told
    assert "secret" not in told


BAD = {
    "declare": "no",
    "heartbeat": "1",
    "prefetch": "many",
    "batch": "0",
    "sweep_every": "inf",
    "handled_for": "1.5",
    "gap_within": "0",
    "compare_every": "-1",
    "check_events": "never",
    "release_within": "nan",
    "stop_within": "",
    "sentinel_every": "0",
    "telemetry": "always",
    "trace_share": "1.5",
    "facts_every": "0",
    "health_host": "",
    "health_port": "70000",
    "mongo_db": "a.b",
    "log_url": "postgresql://localhost/jobs",
    "log_level": "verbose",
    "management_url": "amqp://guest:secret@localhost/",
}


def test_each_setting_with_a_bad_value_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_AMQP_URL", "amqp://h:port/")
    monkeypatch.setenv("BUS_MONGO_URL", "mongodb://")
    for name, value in BAD.items():
        monkeypatch.setenv(f"BUS_{name.upper()}", value)
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    lines = str(caught.value).splitlines()[1:]
    named = {line.strip().partition(":")[0].partition("=")[0] for line in lines}
    every = {*BAD, "amqp_url", "mongo_url"}
    assert named == {f"BUS_{name.upper()}" for name in every}
    assert every | {"signing_secret"} == Settings.model_fields.keys()


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"prefech: .*; did you mean prefetch\?"):
        Settings.in_memory(prefech=7)


@pytest.mark.parametrize("name", ["mongo_ulr", "signing_secrt", "BUS_AMQP_URL", "nothing_like_it"])
def test_the_value_of_an_unknown_setting_is_never_quoted(name: str) -> None:
    """It may be meant for a secret one."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.in_memory(**{name: "hunter2"})
    assert f"{name}: there is no such setting" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("level", ["debug", "Info", "WARNING", "warn", "fatal"])
def test_a_log_level_may_be_written_in_small_letters(level: str) -> None:
    assert Settings.in_memory(log_level=level).log_level == level.upper()


@pytest.mark.parametrize("level", ["verbose", "NOTSET", "LOUD", "", 20, None])
def test_a_log_level_that_there_is_not_is_refused_in_both_places(level: Any) -> None:
    logging.addLevelName(7, "LOUD")
    with pytest.raises(ConfigurationError, match=r"DEBUG.*CRITICAL"):
        log.configure(level=level)
    with pytest.raises(ConfigurationError, match=r"(?s)DEBUG.*CRITICAL"):
        Settings.in_memory(log_level=level)


def test_a_database_in_the_url_is_not_ignored() -> None:
    urls = {"amqp_url": "amqp://h/", "mongo_url": "mongodb://h/shop?replicaSet=r"}
    with pytest.raises(ConfigurationError, match="BUS_MONGO_DB: is not set, while BUS_MONGO_URL"):
        Settings(**urls)
    assert Settings(**urls, mongo_db="shop").mongo_db == "shop"
    for url in ("mongodb://h/admin", "mongodb://h", "mongodb://h/?authSource=shop"):
        assert Settings(**{**urls, "mongo_url": url}).mongo_db == ""


@pytest.mark.parametrize("name", ["a.b", "a b", "a/b", "$a", 'a"', "x" * 64, "é" * 32, "local"])
def test_a_database_that_mongodb_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"BUS_MONGO_DB=.*: the name of a database"):
        Settings.in_memory(mongo_db=name)


def test_a_service_named_as_a_database_of_mongodbs_own_needs_another() -> None:
    urls = {"amqp_url": "amqp://h/", "mongo_url": "mongodb://h/"}
    with pytest.raises(ConfigurationError, match="'admin' is one of MongoDB's own; set BUS_MONGO"):
        Bus("admin", settings=Settings(**urls))


def test_remedies_are_for_those_too_who_installed_the_package_alone() -> None:
    for path in Path(bus.__file__).parent.rglob("*.py"):
        assert not re.search(r"\bbin/", path.read_text()), f"{path}: a wheel has no bin/"


def test_nothing_is_kept_unless_asked_for_by_name() -> None:
    settings = Settings.in_memory()
    assert settings.amqp_url == settings.mongo_url == "memory://"


def test_urls_show_no_password() -> None:
    settings = Settings(amqp_url="amqp://u:secret@h/", mongo_url="mongodb://u:secret@h/")
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "url", "remedy"),
    [
        ("amqp_url", "amqps://h/?no_verify_ssl=1", "cafile=..."),
        ("amqp_url", "amqps://a/,amqps://h/?x=1&NO_VERIFY_SSL=", "cafile=..."),
        ("mongo_url", "mongodb://h/?tls=true&tlsInsecure=true", "tlsCAFile=..."),
        ("mongo_url", "mongodb://h/?tlsAllowInvalidCertificates=true", "tlsCAFile=..."),
        ("mongo_url", "mongodb://h/?tlsAllowInvalidHostnames=true", "tlsCAFile=..."),
        ("mongo_url", "mongodb+srv://h/?ssl_cert_reqs=CERT_NONE", "tlsCAFile=..."),
    ],
)
def test_a_switch_that_turns_the_checks_of_tls_off_is_refused(
    variable: str, url: str, remedy: str
) -> None:
    urls = {"amqp_url": "amqp://h/", "mongo_url": "mongodb://h/", variable: url}
    with pytest.raises(ConfigurationError, match=f"{variable.upper()}.*turns the checks.*{remedy}"):
        Settings(**urls)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("amqps://h/?auth=external", "without certfile: give .* as certfile=FILE"),
        ("amqps://a/,amqps://h/?auth=EXTERNAL&certfile=", "without certfile: give"),
        (
            "amqps://u:secret@h/?auth=external&certfile=c",
            "and a user.*: remove all before the host",
        ),
        ("amqps://u@h/?auth=external&certfile=c", "user.*: remove all before the host"),
        ("amqp://h/?auth=external&certfile=c", "without TLS.*: begin with amqps://"),
        ("amqps://h/?auth=secret", "another value for auth than external: write auth=external"),
    ],
)
def test_a_certificate_as_a_user_needs_tls_and_a_certificate_and_no_user(
    url: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"BUS_AMQP_URL: .*{problem}") as refused:
        Settings(amqp_url=url, mongo_url="mongodb://h/")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["amqps://h:5671/v?auth=external&certfile=c", "amqps://u:p@h/?auth=plain&certfile=c"]
)
def test_a_certificate_may_be_the_user_or_stand_beside_one(url: str) -> None:
    assert Settings(amqp_url=url, mongo_url="mongodb://h/").amqp_urls == (url,)


@pytest.mark.parametrize(
    "place",
    ["u:4729/xq@h/", "u:xq?4729@h/", "u:4729#xq@h/", "u:[xq@4729/", "u:xq\u21004729@h/", "u:xq"],
)
@pytest.mark.parametrize("scheme", ["amqp", "mongodb"])
def test_a_password_that_is_not_encoded_is_refused_or_used_but_never_shown(
    scheme: str, place: str
) -> None:
    """As a URL, it may read as part of a host, a port, a path or a query."""
    urls = {"amqp_url": "amqp://h/", "mongo_url": "mongodb://h/"}
    urls["amqp_url" if scheme == "amqp" else "mongo_url"] = f"{scheme}://{place}"
    try:
        Bus("shop", settings=Settings(**urls))
    except ConfigurationError as error:
        told = "".join(traceback.format_exception(error))
        assert not any(part in told for part in ("xq", "4729")), told
        assert "percent-encode" in told


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "postgres://h/jobs",
            r"names no asynchronous driver: begin it with postgresql\+asyncpg://",
        ),
        ("postgresql://h/jobs", r"names no asynchronous driver: begin .* postgresql\+asyncpg://"),
        ("postgresql+psycopg2://h/jobs", r"asynchronous .* begin it with postgresql\+asyncpg://"),
        ("postgresql+psycopg://h/jobs", r"psycopg, which is not .* postgresql\+asyncpg://"),
        ("mysql+pymysql://h/jobs", r"begin it with mysql\+aiomysql://"),
        ("mysql+asyncmy://h/jobs", r"asyncmy, which is not .* begin it with mysql\+aiomysql://"),
        ("mariadb+asyncmy://h/jobs", r"asyncmy, .* begin it with mariadb\+aiomysql://"),
        ("sqlite+aiosqlite:///jobs", r"must begin with postgresql\+asyncpg:// or mysql\+aiomysql"),
        ("mariadb://h/jobs", r"begin it with mariadb\+aiomysql://"),
        ("sqlite:///jobs", r"must begin with postgresql\+asyncpg:// or mysql\+aiomysql://"),
        ("postgresql+asyncpg://h/", "names no database"),
        ("postgresql+asyncpg://h", "names no database"),
        ("postgresql+asyncpg:///jobs", "does not read as"),
        ("postgresql+asyncpg://h:port/jobs", "does not read as"),
        ("postgresql+asyncpg://u:hunter@2@h/jobs", "does not read as"),
        ("postgresql+asyncpg://u:hunter%2@h/jobs", "does not read as"),
        ("postgresql+asyncpg://u:hunter/2@h/jobs", "does not read as"),
        ("postgresql+asyncpg://u:hunter#2@h/jobs", "does not read as"),
        ("postgresql+asyncpg://h/jobs?ssl=require", "has ssl, .* write tls=true, and cafile=FILE"),
        ("postgresql+asyncpg://h/jobs?sslmode=verify-full&tls=true", "has sslmode, .* tls=true"),
        ("mysql+aiomysql://h/jobs?ssl_ca=/ca.pem", "has ssl_ca, .* write tls=true"),
        ("mysql+aiomysql://h/jobs?tls=false", "another value for tls than true: .* leave them"),
        ("mysql+aiomysql://h/jobs?cafile=", "has cafile without a value"),
        ("mysql+aiomysql://h/jobs?cafile=a&cafile=b", "has cafile more than once"),
        ("mysql+aiomysql://h/jobs?keyfile=k&tls=true", "keyfile without certfile"),
        ("mysql+aiomysql://h/jobs?target_session_attrs=any", "option target_session_attrs, and"),
        ("postgresql+asyncpg://h/jobs?prepared_statement_cache_size=no", "than a whole number"),
    ],
)
def test_the_url_of_a_log_in_sql_is_checked_and_not_quoted(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"BUS_LOG_URL: the URL .*{why}") as caught:
        Settings.in_memory(log_url=url)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://u:p@h:5432/jobs",
        "mysql+aiomysql://h/jobs",
        "mariadb+aiomysql://h/j",
        "mariadb+aiomysql://h/j?tls=true",
        "mysql+aiomysql://h/j?cafile=/ca&certfile=/me&keyfile=/key",
        "postgresql+asyncpg://u@/j?host=a:1&host=b:2&target_session_attrs=primary&tls=true",
        "postgresql+asyncpg://u@h/j?prepared_statement_cache_size=0",
    ],
)
def test_the_url_of_a_log_in_sql_names_its_driver(url: str) -> None:
    settings = Settings.in_memory(log_url=url)
    assert settings.log_url == url
    assert "u:p" not in repr(settings)


def test_settings_in_memory_pass_over_a_log_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUS_LOG_URL", "postgresql+asyncpg://h/jobs")
    assert Settings.in_memory().log_url == ""
    assert Settings.in_memory(log_url="mysql+aiomysql://h/jobs").log_url
