from collections.abc import Callable
from typing import Any

from bus.common.fingerprint import Failure, failure_of


def failing(source: str, **names: Any) -> Failure:
    """The failure of the function `handle` that `source` defines."""
    exec(compile(source, "/somewhere/handlers.py", "exec"), names)
    handle: Callable[[], None] = names["handle"]
    try:
        handle()
    except Exception as error:
        return failure_of(error, "Paid", "bank.mails")
    raise AssertionError("it did not fail")


PLAIN = 'def handle():\n    raise ValueError("a")\n'


def test_a_failure_tells_what_it_was_and_where_it_was_raised() -> None:
    found = failing(PLAIN)
    assert (found.error, found.reason) == ("ValueError", "a")
    assert found.frames[-1] == "handlers.py:2 handle"


def test_a_moved_line_and_another_reason_are_the_same_failure() -> None:
    moved = failing('\n\n\ndef handle():\n    raise ValueError("b")\n')
    assert moved.frames[-1] == "handlers.py:5 handle"
    assert moved.fingerprint == failing(PLAIN).fingerprint


def test_another_error_function_message_or_handler_is_another_failure() -> None:
    deeper = "def inner():\n    raise ValueError\ndef handle():\n    inner()\n"
    error = ValueError("a")
    fingerprints = {
        failing(PLAIN).fingerprint,
        failing(PLAIN.replace("ValueError", "KeyError")).fingerprint,
        failing(deeper).fingerprint,
        failure_of(error, "Paid", "bank.mails").fingerprint,
        failure_of(error, "Sent", "bank.mails").fingerprint,
        failure_of(error, "Paid", "bank.letters").fingerprint,
    }
    assert len(fingerprints) == 6


def test_a_reason_is_kept_whatever_it_holds() -> None:
    failure = failure_of(ValueError("\ud800" + "x" * 5000), "Pa\udfffid", "bank.mails")
    failure.reason.encode()
    assert len(failure.reason) < 2010
