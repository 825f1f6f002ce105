"""The job board's API: statuses, problem details, and the headers that go with a message."""

import asyncio
from typing import Any

import httpx
import pytest

from bus import (
    Bus,
    ConfigurationError,
    NotBuilt,
    NotCaughtUp,
    OutcomeUnknown,
    ProjectionError,
    Settings,
    StoreUnavailable,
    TransportUnavailable,
    Unavailable,
    Worker,
)
from bus.errors import Discontinued, NotAllowed
from handlers.app import build
from handlers.http import create_app
from tests.scraping import total
from tests.service.conftest import Until, client_of

JOBS, APPLICATIONS = "/api/v1/jobs", "/api/v1/applications"
INTERVIEWS = "/api/v1/interviews"
POSTING = {"title": "Signaller", "description": "Night shifts on the northern line."}


def seen(answer: httpx.Response) -> dict[str, str]:
    return {"Bus-Receipt": answer.headers["Bus-Receipt"]}


async def post(api: httpx.AsyncClient, **posting: str) -> httpx.Response:
    answer = await api.post(JOBS, json=POSTING | posting)
    assert answer.status_code == 201
    return answer


def problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/docs#{name}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def problems_in(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What health tells, but for this process's being late on a machine that may be busy."""
    return [one for one in report["problems"] if one["part"] != "event loop"]


async def test_the_whole_life_over_http(api: httpx.AsyncClient, until: Until) -> None:
    posted = await post(api)
    path = posted.headers["Location"]
    job_id = posted.json()["id"]
    assert path == f"{JOBS}/{job_id}"
    job = (await api.get(path, headers=seen(posted))).json()
    assert job | {"posted": ""} == POSTING | {
        "id": job_id,
        "status": "open",
        "version": 1,
        "posted": "",
        "applications": 0,
    }

    revision = POSTING | {"title": "Senior signaller", "version": job["version"]}
    revised = await api.put(path, json=revision)
    assert (revised.status_code, revised.json()) == (200, {"id": job_id, "version": 2})

    letter = {"job_id": job_id, "applicant": "ada", "letter": "Take me."}
    applied = await api.post(APPLICATIONS, json=letter, headers=seen(revised))
    assert applied.status_code == 201
    mine = await api.get(APPLICATIONS, params={"applicant": "ada"}, headers=seen(applied))
    assert mine.json()["total"] == 1
    assert mine.json()["items"][0]["job_title"] == "Senior signaller"

    archived = await api.put(f"{path}/archive")
    assert archived.status_code == 200
    board = await api.get(JOBS, headers=seen(archived))
    assert board.json() == {"total": 0, "items": []}

    async def closed() -> bool:
        page = (await api.get(APPLICATIONS, params={"job_id": job_id})).json()
        return [one["status"] for one in page["items"]] == ["closed"]

    await until(closed, "the application of an archived job is not closed")


async def test_a_stale_version_is_a_conflict(api: httpx.AsyncClient) -> None:
    path = (await post(api)).headers["Location"]
    await api.put(path, json=POSTING | {"version": 1})
    answer = await api.put(path, json=POSTING | {"version": 1})
    assert "at version 2" in problem(answer, 409, "stale-version")["detail"]


async def test_an_archived_job_is_a_conflict(api: httpx.AsyncClient) -> None:
    posted = await post(api)
    path = posted.headers["Location"]
    archived = await api.put(f"{path}/archive")
    problem(await api.put(path, json=POSTING | {"version": 2}), 409, "job-archived")
    letter = {"job_id": posted.json()["id"], "applicant": "ada", "letter": "Take me."}
    answer = await api.post(APPLICATIONS, json=letter, headers=seen(archived))
    problem(answer, 409, "job-closed")


async def test_applicants_are_invited_into_rooms_that_are_free(
    api: httpx.AsyncClient, until: Until
) -> None:
    posted = await post(api)
    letter = {"job_id": posted.json()["id"], "applicant": "ada", "letter": "Take me."}
    applied = await api.post(APPLICATIONS, json=letter, headers=seen(posted))
    invitation = {
        "application_id": applied.json()["id"],
        "interviewer": "grace",
        "room": "blue",
        "hour": "2026-03-02 09:00",
    }
    planned = await api.post(INTERVIEWS, json=invitation)
    assert (planned.status_code, len(planned.json()["id"])) == (201, 32)
    answer = await api.post(INTERVIEWS, json=invitation)
    assert "blue is taken at 2026-03-02 09:00" in problem(answer, 409, "room-taken")["detail"]
    problem(await api.post(INTERVIEWS, json=invitation | {"hour": "nine"}), 422, "invalid")
    nobody = invitation | {"application_id": "nobody"}
    problem(await api.post(INTERVIEWS, json=nobody), 404, "unknown")

    absent = await api.post("/api/v1/absences", json={"interviewer": "grace"})
    assert (absent.status_code, absent.json()) == (200, {"interviews": 1})
    assert (await api.post(INTERVIEWS, json=invitation)).status_code == 201

    await api.put(f"{posted.headers['Location']}/archive")

    async def closed() -> bool:
        page = (await api.get(APPLICATIONS, params={"applicant": "ada"})).json()
        return [one["status"] for one in page["items"]] == ["closed"]

    await until(closed, "the application of an archived job is not closed")
    problem(await api.post(INTERVIEWS, json=invitation), 409, "application-closed")


async def test_what_nobody_posted_is_not_found(api: httpx.AsyncClient) -> None:
    assert (await api.get(f"{JOBS}/nobody")).status_code == 404
    problem(await api.put(f"{JOBS}/nobody/archive"), 404, "unknown")
    problem(await api.put(f"{JOBS}/nobody", json=POSTING | {"version": 1}), 404, "unknown")
    letter = {"job_id": "nobody", "applicant": "ada", "letter": "Take me."}
    problem(await api.post(APPLICATIONS, json=letter), 404, "unknown-job")


async def test_what_the_framework_refuses_is_a_problem_too(api: httpx.AsyncClient) -> None:
    answer = await api.get("/nowhere")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "about:blank"
    answer = await api.delete(JOBS)
    assert (answer.status_code, answer.json()["title"]) == (405, "Method Not Allowed")
    assert answer.headers["Allow"]


async def test_an_invalid_body_tells_each_value_to_mend(api: httpx.AsyncClient) -> None:
    body = problem(await api.post(JOBS, json={"title": ""}), 422, "invalid")
    assert {error["pointer"] for error in body["errors"]} == {"#/title", "#/description"}
    problem(await api.post(JOBS, content=b"{"), 422, "invalid")
    problem(await api.get(JOBS, params={"limit": "1000"}), 422, "invalid")
    problem(await api.get(APPLICATIONS), 422, "invalid")
    both = {"job_id": "j", "applicant": "a"}
    problem(await api.get(APPLICATIONS, params=both), 422, "invalid")
    problem(await api.post(JOBS, json=POSTING, headers={"Idempotency-Key": "a b"}), 422, "invalid")


async def test_a_malformed_receipt_is_refused(api: httpx.AsyncClient) -> None:
    headers = {"Bus-Receipt": "what?"}
    problem(await api.get(JOBS, headers=headers), 400, "malformed")
    problem(await api.post(JOBS, json=POSTING, headers=headers), 400, "malformed")


async def test_the_same_idempotency_key_posts_one_job(api: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    answers = [await api.post(JOBS, json=POSTING, headers=headers) for _ in range(2)]
    answers += await asyncio.gather(
        *(api.post(JOBS, json=POSTING, headers=headers) for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({answer.headers["Bus-Receipt"] for answer in answers}) == 1
    board = await api.get(JOBS, headers=seen(answers[-1]))
    assert board.json()["total"] == 1


async def test_a_key_that_was_used_for_something_else_is_a_conflict(
    api: httpx.AsyncClient,
) -> None:
    headers = {"Idempotency-Key": "once"}
    assert (await api.post(JOBS, json=POSTING, headers=headers)).status_code == 201
    other = {**POSTING, "title": "Another"}
    problem(await api.post(JOBS, json=other, headers=headers), 409, "key-used")


async def test_the_key_of_one_user_says_nothing_about_that_of_another(
    api: httpx.AsyncClient,
) -> None:
    users = [{"X-Forwarded-User": user, "Idempotency-Key": "once"} for user in ("ada", "eve")]
    ada, eve, again = [
        (await api.post(JOBS, json=POSTING, headers=headers)).json()["id"]
        for headers in (*users, users[0])
    ]
    nobody = (await api.post(JOBS, json=POSTING, headers={"Idempotency-Key": "once"})).json()["id"]
    assert again == ada
    assert len({ada, eve, nobody}) == 3


async def test_a_correlation_id_passes_through(api: httpx.AsyncClient, bus: Bus) -> None:
    headers = {"X-Correlation-ID": "from-outside", "Idempotency-Key": "known"}
    answer = await api.post(JOBS, json=POSTING, headers=headers)
    assert answer.headers["X-Correlation-ID"] == "from-outside"
    (commit,) = await bus.runtime.event_log.find("known")
    assert commit.correlation_id == "from-outside"
    refused = await api.get("/nowhere", headers=headers)
    assert refused.headers["X-Correlation-ID"] == "from-outside"


async def test_lists_come_in_pages(api: httpx.AsyncClient) -> None:
    for number in range(3):
        posted = await post(api, title=f"Job {number}")
        await api.get(JOBS, headers=seen(posted))
    page = (await api.get(JOBS, params={"skip": 1, "limit": 1})).json()
    assert page["total"] == 3
    assert [job["title"] for job in page["items"]] == ["Job 1"]


async def test_a_search_finds_words_of_title_and_description(
    real_api: httpx.AsyncClient,
) -> None:
    """On MongoDB only: text search is the database's."""
    told = {"Baker": "Bread.", "Driver": "Carries bread through the night.", "Smith": "Iron."}
    for title, description in told.items():
        posted = await post(real_api, title=title, description=description)
        await real_api.get(JOBS, headers=seen(posted))  # partitions have no order among them

    async def titles(text: str) -> set[str]:
        answer = await real_api.get(JOBS, params={"text": text})
        return {job["title"] for job in answer.json()["items"]}

    assert await titles("bread") == {"Baker", "Driver"}
    assert await titles("smith") == {"Smith"}
    assert await titles("carpenter") == set()


async def test_a_read_that_is_too_early_may_come_again(idle: Bus) -> None:
    """Nobody projects here; the receipt cannot be honoured in time."""
    async with client_of(idle) as api:
        posted = await post(api)
        answer = await api.get(JOBS, headers={**seen(posted), "Prefer": "wait=1"})
    problem(answer, 503, "not-caught-up")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("error", "name"),
    [(StoreUnavailable, "store-unavailable"), (OutcomeUnknown, "outcome-unknown")],
)
async def test_an_outage_may_be_tried_again(
    idle: Bus, error: type[Exception], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise error("the database is away")

    monkeypatch.setattr(idle.runtime.event_log, "append", away)
    async with client_of(idle) as api:
        answer = await api.post(JOBS, json=POSTING)
    problem(answer, 503, name)
    assert answer.headers["Retry-After"] == "1"


async def test_it_tells_whether_it_lives_and_is_ready(api: httpx.AsyncClient, until: Until) -> None:
    assert (await api.get("/livez")).json() == {"alive": True}

    async def consuming() -> bool:
        return (await api.get("/readyz")).status_code == 200

    await until(consuming, "its worker consumes")
    ready = (await api.get("/readyz")).json()
    assert (ready["alive"], ready["ready"], problems_in(ready)) == (True, True, [])
    assert ready["broker"]["healthy"] is True


async def test_it_shows_what_it_counts_to_prometheus(idle: Bus) -> None:
    async with client_of(idle) as api:
        assert (await api.post(JOBS, json=POSTING)).status_code == 201
        answer = await api.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        answer = await api.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert total(answer.content, "bus_commands_total", message="PostJob", outcome="done") == 1


async def test_without_the_extra_of_prometheus_there_is_nothing_to_show(
    idle: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.telemetry.metrics.attached.find_spec", lambda name: None)
    async with client_of(idle) as api:
        assert (await api.get("/metrics")).status_code == 404
        assert (await api.get("/livez")).status_code == 200


async def test_it_is_not_ready_while_the_database_is_away(
    idle: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(idle.runtime.event_log, "read", away)
    async with client_of(idle) as api:
        answer = await api.get("/readyz")
        assert (await api.get("/livez")).status_code == 200
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    (told,) = problems_in(answer.json())
    assert (told["part"], told["breaks"]) == ("database", "ready")


PLACES = "at db1.internal:27017 and amqp://board:secret@10.0.0.7:5672/, see to it"


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable,
        NotAllowed,
        NotBuilt,
        NotCaughtUp,
        Discontinued,
        TransportUnavailable,
        OutcomeUnknown,
        ConfigurationError,
        ProjectionError,
        OSError,
    ],
)
async def test_no_error_tells_clients_an_address(
    idle: Bus, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong behind the API, by whichever path it is asked."""

    async def fails(*_: object, **__: object) -> None:
        raise error(PLACES)

    for store, calls in (
        (idle.runtime.event_log, ("append", "find", "read", "confirmed")),
        (idle.runtime.collections, ("versions",)),
        (idle.runtime.control, ("lease", "parked", "note")),
        (idle.runtime.transport, ("publish", "depth")),
        (idle.runtime.catalogue, ("target", "lineage")),
    ):
        for call in calls:
            monkeypatch.setattr(store, call, fails)
    monkeypatch.setattr(idle.runtime.dispatcher, "ask", fails)
    monkeypatch.setattr(idle.runtime.dispatcher, "execute", fails)
    monkeypatch.setattr(idle.runtime.dispatcher, "execute_once", fails)
    monkeypatch.setattr("handlers.http.calls.FIRST_WITHIN", 0.1)
    letter = {"job_id": "j", "applicant": "a", "letter": "l"}
    transport = httpx.ASGITransport(create_app(idle), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://jobboard") as api:
        answers = [
            await api.post(JOBS, json=POSTING),
            await api.post(JOBS, json=POSTING, headers={"Idempotency-Key": "k"}),
            await api.get(JOBS),
            await api.get(f"{JOBS}/j"),
            await api.put(f"{JOBS}/j", json={**POSTING, "version": 1}),
            await api.put(f"{JOBS}/j/archive"),
            await api.post("/api/v1/applications", json=letter),
            await api.get("/api/v1/applications", params={"job_id": "j"}),
            await api.get("/api/v1/applications", params={"applicant": "a"}),
        ]
        for answer in answers:
            expected = 503 if issubclass(error, Unavailable | OutcomeUnknown) else 500
            assert (answer.status_code, answer.headers["Content-Type"]) == (
                expected, "application/problem+json",
            )  # fmt: skip
        live = await api.get(f"{JOBS}/live", headers={"Prefer": "wait=0"})
        assert live.status_code in (500, 503)
        answers += [live, await api.get("/readyz"), await api.get("/livez")]
    for answer in answers:
        for word in ("internal:", "27017", "5672", "10.0.0.7", "secret", "amqp://"):
            assert word not in answer.text
            assert word not in str(answer.headers)


async def test_the_docs_page_needs_nothing_from_elsewhere(api: httpx.AsyncClient) -> None:
    page = (await api.get("/docs")).text
    assert "POST /api/v1/jobs" in page
    assert "id=stale-version" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


async def test_the_app_opens_its_bus_and_its_worker(unique: str) -> None:
    bus = build(Settings.in_memory(), unique)
    app = create_app(bus, worker=Worker(bus))
    async with app.router.lifespan_context(app), client_of(bus) as api:
        posted = await post(api)
        assert (await api.get(JOBS, headers=seen(posted))).json()["total"] == 1
