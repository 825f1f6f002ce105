import traceback

import pytest

from bus import Bus, ConfigurationError, Settings


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
    assert "BUS_AMQP_URL: Field required" in told
    assert "BUS_MONGO_URL: Value error, is no URL of mongodb" in told
    assert "BUS_HEARTBEAT" in told
    assert "secret" not in told


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
        assert "percent-encode" in told or "cannot be read" in told
