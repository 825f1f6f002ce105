"""Problems: which error leads to which status, as problem details (RFC 9457)."""

from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from bus import (
    AggregateNotFound,
    ConcurrencyError,
    IdConflict,
    InvalidMessage,
    NotBuilt,
    NotCaughtUp,
    OutcomeUnknown,
    StoreUnavailable,
    Unavailable,
)
from bus.observe.log import Logger
from handlers.http.calls import CORRELATION
from write_models.applications import ApplicationIsClosed, JobIsClosed, UnknownJob
from write_models.interviews import RoomIsTaken
from write_models.jobs import JobIsArchived, StaleVersion

RETRY_AFTER = "1"

log = Logger("jobboard.http")


class Problem(NamedTuple):
    """A kind of problem; its name is an anchor of the page at /docs.

    Without a `detail`, the response quotes the error, which is about the request only. What went
    wrong behind the API goes into the log only, because it names servers and their addresses.
    """

    status: int
    name: str
    title: str
    detail: str = ""


INVALID = Problem(422, "invalid", "The request is not as it must be")
INTERNAL = Problem(
    500,
    "internal",
    "Something is wrong with the service",
    "its operators can read what, in its log",
)
LATER = "try again in a while"

PROBLEMS: Mapping[type[Exception], Problem] = {
    IdConflict: Problem(409, "key-used", "The Idempotency-Key was used for something else"),
    InvalidMessage: Problem(400, "malformed", "A receipt or an id cannot be read"),
    AggregateNotFound: Problem(404, "unknown", "There is no such thing"),
    UnknownJob: Problem(404, "unknown-job", "There is no such job to apply for"),
    StaleVersion: Problem(409, "stale-version", "The job was revised since you read it"),
    JobIsArchived: Problem(409, "job-archived", "The job is archived"),
    JobIsClosed: Problem(409, "job-closed", "The job takes no applications any more"),
    ApplicationIsClosed: Problem(409, "application-closed", "The application is closed"),
    RoomIsTaken: Problem(409, "room-taken", "Somebody else has the room for that hour"),
    ConcurrencyError: Problem(409, "conflict", "Others changed the same thing at the same time"),
    NotCaughtUp: Problem(503, "not-caught-up", "What you wrote cannot be read yet", LATER),
    NotBuilt: Problem(503, "not-built", "What you ask for is being built from the log", LATER),
    StoreUnavailable: Problem(503, "store-unavailable", "The database does not answer", LATER),
    OutcomeUnknown: Problem(
        503,
        "outcome-unknown",
        "Repeat it with the same Idempotency-Key to learn what became of it",
        "the database did not answer in time",
    ),
    Unavailable: Problem(503, "unavailable", "The service cannot do it for now", LATER),
    Exception: INTERNAL,
}


def add_problems(app: FastAPI) -> None:
    """Answers errors with problem details."""
    for error, problem in PROBLEMS.items():
        app.add_exception_handler(error, partial(_known, problem))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)


async def _known(problem: Problem, request: Request, error: Exception) -> Response:
    if not problem.detail:
        return _answer(request, problem, str(error))
    if problem is not INTERNAL:  # that one is also raised to the server, which logs it
        log.warning("not answered", path=request.url.path, why=problem.name, reason=str(error))
    return _answer(request, problem, problem.detail)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"in": where, "pointer": "#/" + "/".join(map(str, path)), "detail": found["msg"]}
        for found in error.errors()
        for where, *path in [found["loc"]]
    ]
    detail = f"{len(errors)} of its values must be mended: see errors"
    return _answer(request, INVALID, detail, errors=errors)


async def _plain(request: Request, error: Exception) -> Response:
    """Answers what the framework itself refuses: no such path, no such method."""
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    return _answer(request, Problem(error.status_code, "", title), error.detail, error.headers)


def _answer(
    request: Request,
    problem: Problem,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] | None = None,
) -> Response:
    content: dict[str, Any] = {
        "type": f"/docs#{problem.name}" if problem.name else "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
    }
    if errors is not None:
        content["errors"] = errors
    return JSONResponse(
        content,
        problem.status,
        headers={**_headers(request, problem), **(headers or {})},
        media_type="application/problem+json",
    )


def _headers(request: Request, problem: Problem) -> dict[str, str]:
    headers = {"Retry-After": RETRY_AFTER} if problem.status == 503 else {}
    if correlation := request.headers.get(CORRELATION):
        headers[CORRELATION] = correlation
    return headers
