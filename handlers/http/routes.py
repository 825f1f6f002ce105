"""Routes: each runs one command or one query."""

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Header, HTTPException, Response
from fastapi import Query as Parameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from handlers.http.calls import Calls, calls_of
from handlers.http.live import EventStream, events_of
from read_models import stores
from read_models.analysis import AnalyseJob, JobAnalysis
from read_models.applicant_history import ApplicantHistory, HistoryEntry
from read_models.applications_by_job import ApplicationView, ListApplications
from read_models.job_board import GetJob, JobView, ListJobs, WatchJobs
from read_models.paging import Page
from write_models.applications import SubmitApplication
from write_models.interviews import CallOffInterviews, PlanInterview
from write_models.jobs import ArchiveJob, PostJob, ReviseJob

Caller = Annotated[Calls, Depends(calls_of)]

routes = APIRouter()
api = APIRouter(prefix="/api/v1")


class Body(BaseModel):
    """The body of a request, which must not have unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Posting(Body):
    """The text of a job."""

    title: str = Field(min_length=1, max_length=200)
    description: str = Field(min_length=1, max_length=20_000)


class Revision(Posting):
    """The new text of a job; `version` is the one that its author has seen."""

    version: int = Field(ge=1)


class Letter(Body):
    """An application for a job."""

    job_id: str = Field(min_length=1, max_length=100)
    applicant: str = Field(min_length=1, max_length=200)
    letter: str = Field(max_length=20_000)


class Invitation(Body):
    """An interview with an applicant; the room is booked for the hour that begins then."""

    application_id: str = Field(min_length=1, max_length=100)
    interviewer: str = Field(min_length=1, max_length=200)
    room: str = Field(min_length=1, max_length=100)
    hour: str = Field(pattern=r"^\d{4}-\d{2}-\d{2} \d{2}:00$")


class Absence(Body):
    """An interviewer who cannot come."""

    interviewer: str = Field(min_length=1, max_length=200)


class Created(BaseModel):
    """The id of what was created."""

    id: str


class Revised(Created):
    """The version that the next revision must name."""

    version: int


class CalledOff(BaseModel):
    """How many interviews do not take place."""

    interviews: int


class Paging(NamedTuple):
    """The part of a list to return."""

    skip: int
    limit: int


async def paging(
    skip: Annotated[int, Parameter(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
) -> Paging:
    return Paging(skip, limit)


Paged = Annotated[Paging, Depends(paging)]


@api.post("/jobs", status_code=201)
async def post_job(body: Posting, calls: Caller) -> Created:
    """Posts a job."""
    command = PostJob(job_id=calls.new_id(), title=body.title, description=body.description)
    receipt = await calls.execute(command)
    calls.created(f"/api/v1/jobs/{receipt.result}")
    return Created(id=receipt.result)


@api.get("/jobs")
async def list_jobs(
    calls: Caller, page: Paged, text: Annotated[str, Parameter(max_length=200)] = ""
) -> Page[JobView]:
    """Returns the open jobs, newest first; with `text`, those that mention one of its words."""
    return await calls.query(ListJobs(text=text, skip=page.skip, limit=page.limit))


@api.get("/jobs/live", response_class=Response, responses={200: events_of("Page_JobView_")})
async def watch_jobs(
    calls: Caller,
    page: Paged,
    text: Annotated[str, Parameter(max_length=200)] = "",
    last_event_id: Annotated[str | None, Header(max_length=200)] = None,
) -> EventStream:
    """Sends the list of jobs now, and again whenever it changes, as server-sent events.

    Each event's id identifies its answer: a client that reconnects with `Last-Event-ID` gets
    nothing until the answer changes.
    """
    query = WatchJobs(text=text, skip=page.skip, limit=page.limit)
    return await calls.watch(query, seen=last_event_id)


@api.get("/jobs/{job_id}")
async def get_job(job_id: str, calls: Caller) -> JobView:
    """Returns one job, open or archived."""
    job = await calls.query(GetJob(job_id=job_id))
    if job is None:
        raise HTTPException(404, f"there is no job {job_id}")
    return job


@api.get("/jobs/{job_id}/analysis")
async def analyse_job(job_id: str, calls: Caller) -> JobAnalysis:
    """Returns who applied when, and how long the job was open."""
    if not stores.url(stores.ANALYSIS):
        raise HTTPException(404, f"there are no tables for analysts here: {stores.ANALYSIS}")
    found = await calls.query(AnalyseJob(job_id=job_id))
    if found is None:
        raise HTTPException(404, f"there is no job {job_id}")
    return found


@api.put("/jobs/{job_id}")
async def revise_job(job_id: str, body: Revision, calls: Caller) -> Revised:
    """Revises a job, unless somebody else has done so since its author read it."""
    receipt = await calls.execute(
        ReviseJob(
            job_id=job_id, version=body.version, title=body.title, description=body.description
        )
    )
    return Revised(id=job_id, version=receipt.result)


@api.put("/jobs/{job_id}/archive")
async def archive_job(job_id: str, calls: Caller) -> Created:
    """Archives a job for good; its open applications are closed soon after."""
    await calls.execute(ArchiveJob(job_id=job_id))
    return Created(id=job_id)


@api.post("/applications", status_code=201)
async def submit_application(body: Letter, calls: Caller) -> Created:
    """Applies for a job that is open."""
    receipt = await calls.execute(
        SubmitApplication(
            application_id=calls.new_id(),
            job_id=body.job_id,
            applicant=body.applicant,
            letter=body.letter,
        )
    )
    return Created(id=receipt.result)


@api.get("/applications")
async def list_applications(
    calls: Caller, page: Paged, job_id: str | None = None, applicant: str | None = None
) -> Page[ApplicationView] | Page[HistoryEntry]:
    """Returns the applications for one job, or those of one applicant."""
    match job_id, applicant:
        case str(), None:
            return await calls.query(
                ListApplications(job_id=job_id, skip=page.skip, limit=page.limit)
            )
        case None, str():
            return await calls.query(
                ApplicantHistory(applicant=applicant, skip=page.skip, limit=page.limit)
            )
    problem = {"loc": ("query", "job_id"), "msg": "give either job_id or applicant"}
    raise RequestValidationError([problem])


@api.post("/interviews", status_code=201)
async def plan_interview(body: Invitation, calls: Caller) -> Created:
    """Invites an applicant, whose application is open, into a room that is free."""
    command = PlanInterview(interview_id=calls.new_id(), **body.model_dump())
    receipt = await calls.execute(command)
    return Created(id=receipt.result)


@api.post("/absences")
async def call_off_interviews(body: Absence, calls: Caller) -> CalledOff:
    """Calls off all interviews with somebody who is absent."""
    command = CallOffInterviews(
        by="interviewer", value=body.interviewer, reason="the interviewer is absent"
    )
    receipt = await calls.execute(command)
    return CalledOff(interviews=receipt.result)


@routes.get("/livez", include_in_schema=False)
async def alive(calls: Caller) -> JSONResponse:
    """Answers 200 unless only a restart helps."""
    lives = await calls.alive()
    return JSONResponse({"alive": lives}, 200 if lives else 503)


@routes.get("/readyz", include_in_schema=False)
async def ready(calls: Caller) -> JSONResponse:
    """Answers 200 if the database answers. RabbitMQ may be away, because events wait in the log.

    Names the parts that have problems; the problems are in the log, because they name addresses.
    """
    health = await calls.health()
    problems = [
        {"part": problem.part, "seconds": round(problem.seconds, 1), "breaks": problem.breaks}
        for problem in health.problems
    ]
    healthy = all(one.part != "broker" for one in health.problems)
    body = {
        "alive": health.alive,
        "ready": health.ready,
        "problems": problems,
        "broker": {"is": calls.broker, "healthy": healthy},
    }
    return JSONResponse(body, 200 if health.ready else 503)


routes.include_router(api)
