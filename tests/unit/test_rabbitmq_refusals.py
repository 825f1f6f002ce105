"""What is said of what RabbitMQ refuses."""

import re

import pytest
from aiormq.exceptions import AuthenticationError

from bus.transports.rabbitmq.refusals import reason_of


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(32, "Broken pipe"),
        ConnectionResetError(104, "Connection reset by peer"),
        ConnectionAbortedError(103, "Software caused connection abort"),
        EOFError("0 bytes read on a total of 7 expected bytes"),
        OSError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
    ],
)
def test_a_hand_shake_that_the_broker_hangs_up_on_points_to_the_certificates(
    error: Exception,
) -> None:
    assert "certfile= and keyfile=" in reason_of("amqps", error)
    assert "certfile" not in reason_of("amqp", error)


def test_a_broker_that_is_not_there_is_no_matter_of_certificates() -> None:
    away = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 5671)")
    for scheme in ("amqp", "amqps"):
        assert reason_of(scheme, away).endswith("; is it running, and is its URL right?")
        assert reason_of(scheme, TimeoutError()).startswith("no answer in time; is it running")


def test_who_is_not_let_in_is_told_how_user_password_and_virtual_host_are_written() -> None:
    login = ConnectionError("ACCESS_REFUSED - Login was refused using authentication mechanism")
    for scheme in ("amqp", "amqps"):
        assert "urllib.parse.quote(text, safe='')" in reason_of(scheme, login)
        told = reason_of(scheme, ConnectionError("NOT_ALLOWED - vhost shop not found"))
        assert "/%2Fx is the one named /x" in told


def test_what_the_driver_makes_of_a_refused_virtual_host_is_told_as_that() -> None:
    words = "Expected one of ['Connection.OpenOk'], got <Connection.Close object at 0x7f2f70d99010>"
    told = reason_of("amqp", ConnectionError(words))
    assert told.startswith("the broker does not open the virtual host of the URL to this user; ")
    assert "0x" not in told


def test_what_a_broker_says_of_a_certificate_of_ours_is_told_in_words() -> None:
    for alert, meaning in (
        ("TLSV1_ALERT_UNKNOWN_CA", "does not know the authority .* certfile="),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "certificate of certfile= has expired"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "asks for a certificate, and the URL names none"),
    ):
        told = reason_of("amqps", ConnectionError(f"SSLError(1, '[SSL: {alert}] ...')"))
        assert re.search(meaning, told), told
    theirs = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired"
    assert "cafile= is the authority" in reason_of("amqps", ConnectionError(theirs))


def test_a_certificate_that_is_no_user_is_not_taken_for_a_wrong_password() -> None:
    words = "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL."
    told = reason_of("amqps", ConnectionError(words))
    assert "no user of the name in the certificate" in told
    assert "password in the URL" not in told


@pytest.mark.parametrize(("offered", "said"), [("PLAIN AMQPLAIN", "PLAIN"), ("", "nothing")])
def test_a_broker_that_lets_in_by_other_means_is_told_as_that(offered: str, said: str) -> None:
    told = reason_of("amqps", AuthenticationError(offered, ["PLAIN", "EXTERNAL"]))
    assert f"only by {said}" in told
    assert "rabbitmq_auth_mechanism_ssl" in told
    assert "Errno" not in told
