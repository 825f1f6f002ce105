"""What is said of what RabbitMQ refuses."""

import pytest

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
    assert "certfile" not in reason_of("amqps", away)
    assert reason_of("amqps", TimeoutError()) == "no answer in time"
