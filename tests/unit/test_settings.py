import pytest

from bus import ConfigurationError, Settings


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
