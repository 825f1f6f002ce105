"""The load: many people at once who post, revise and archive jobs, apply for them, and plan
interviews.

Most of it succeeds; some of it is wrong on purpose (stale versions, archived and unknown jobs,
rooms that are taken), and some commands are sent twice.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence

from tools.demo import people
from tools.demo.client import TAKEN, Answer, Client
from tools.demo.tally import Tally

JOBS, APPLICATIONS = "/api/v1/jobs", "/api/v1/applications"
INTERVIEWS, ABSENCES = "/api/v1/interviews", "/api/v1/absences"
FIRST_JOBS = 20
SAMPLED = 0.1
PAUSE = 0.25
"""Seconds after each thing that people do besides, while something is being brought back."""
POSTED_TWICE = 0.1
BROWSED = 0.03


class Job:
    """A job as the load knows it; `receipt` is that of the last write to it."""

    def __init__(self, answer: Answer) -> None:
        self.id: str = answer.body["id"]
        self.receipt = answer.receipt
        self.version = 1

    @property
    def path(self) -> str:
        return f"{JOBS}/{self.id}"


class Board:
    """The jobs and the applications that all people know of."""

    def __init__(self) -> None:
        self.applications: list[str] = []
        self.open: list[Job] = []
        self.archived: list[Job] = []


class Person:
    """Does one thing after the other through a client of their own."""

    def __init__(self, client: Client, tally: Tally, board: Board, chance: random.Random) -> None:
        self._client = client
        self._tally = tally
        self._board = board
        self._chance = chance
        self._habits: dict[Callable[[], Awaitable[None]], int] = {
            self._apply: 62,
            self._invite: 7,
            self._be_absent: 1,
            self.post: 10,
            self._revise: 9,
            self._revise_stale: 3,
            self._archive: 3,
            self._apply_too_late: 3,
            self._apply_for_nothing: 1,
            self._revise_too_late: 1,
        }

    async def act(self) -> None:
        """Does something, wrong things at times."""
        (habit,) = self._chance.choices(list(self._habits), list(self._habits.values()))
        await habit()

    async def post(self) -> None:
        key, body = uuid.uuid4().hex, people.job(self._chance)
        began = time.monotonic()
        answer = await self._client.command("POST", JOBS, body, key=key)
        if answer.outcome != TAKEN:
            return
        job = Job(answer)
        await self._sample(began, job.path, answer)
        if self._chance.random() < POSTED_TWICE:
            await self._post_again(body, key, answer)
        self._board.open.append(job)

    async def _post_again(self, body: dict[str, str], key: str, first: Answer) -> None:
        """As a client does that lost the first answer."""
        again = await self._client.command("POST", JOBS, body, key=key)
        self._tally.repeated += 1
        if again != first:
            self._tally.unexpected.append(f"a repeat was answered {again}, the first time {first}")

    async def _apply(self) -> None:
        job = self._chance.choice(self._board.open)
        if self._chance.random() < BROWSED:
            text = people.job(self._chance)["title"]
            await self._client.read(JOBS, text=text, limit=5)
        began = time.monotonic()
        answer = await self._letter_to(job, may=(TAKEN, "job-closed"))
        if answer.outcome == TAKEN:
            self._board.applications.append(answer.body["id"])
            await self._sample(began, APPLICATIONS, answer, job_id=job.id, limit=1)

    async def _apply_too_late(self) -> None:
        if self._board.archived:
            job = self._chance.choice(self._board.archived)
            await self._letter_to(job, may=("job-closed",))
        else:
            await self._apply()

    async def _apply_for_nothing(self) -> None:
        body = {"job_id": uuid.uuid4().hex, "applicant": "Nobody", "letter": "-"}
        await self._client.command("POST", APPLICATIONS, body, may=("unknown-job",))

    async def _letter_to(self, job: Job, *, may: tuple[str, ...]) -> Answer:
        body = {
            "job_id": job.id,
            "applicant": people.applicant(self._chance),
            "letter": people.letter(self._chance),
        }
        return await self._client.command("POST", APPLICATIONS, body, may=may, after=job.receipt)

    async def _invite(self) -> None:
        if not self._board.applications:
            await self._apply()
            return
        id = self._chance.choice(self._board.applications)
        body = {"application_id": id, **people.interview(self._chance)}
        may = (TAKEN, "room-taken", "application-closed")
        await self._client.command("POST", INTERVIEWS, body, may=may)

    async def _be_absent(self) -> None:
        body = {"interviewer": people.interviewer(self._chance)}
        await self._client.command("POST", ABSENCES, body)

    async def _revise(self) -> None:
        job = self._chance.choice(self._board.open)
        began = time.monotonic()
        may = (TAKEN, "stale-version", "job-archived")
        answer = await self._revision(job, job.version, may=may)
        if answer.outcome == TAKEN:
            job.version = max(job.version, answer.body["version"])
            job.receipt = answer.receipt
            await self._sample(began, job.path, answer)

    async def _revise_stale(self) -> None:
        revised = [job for job in self._board.open if job.version > 1]
        if revised:
            job = self._chance.choice(revised)
            await self._revision(job, job.version - 1, may=("stale-version", "job-archived"))
        else:
            await self._revise()

    async def _revise_too_late(self) -> None:
        if self._board.archived:
            job = self._chance.choice(self._board.archived)
            await self._revision(job, job.version, may=("job-archived",))
        else:
            await self._revise()

    async def _revision(self, job: Job, version: int, *, may: tuple[str, ...]) -> Answer:
        body = {**people.job(self._chance), "version": version}
        return await self._client.command("PUT", job.path, body, may=may)

    async def _archive(self) -> None:
        """The first job is never archived, so that there is always one to apply for."""
        if len(self._board.open) < 2:
            return
        job = self._board.open.pop(self._chance.randrange(1, len(self._board.open)))
        began = time.monotonic()
        answer = await self._client.command("PUT", f"{job.path}/archive")
        if answer.outcome == TAKEN:
            job.receipt = answer.receipt
            self._board.archived.append(job)
            await self._sample(began, job.path, answer)

    async def _sample(self, began: float, path: str, answer: Answer, **parameters: object) -> None:
        """For some of the commands: how long until a reader sees what they did."""
        if self._chance.random() < SAMPLED:
            await self._client.read(path, after=answer.receipt, **parameters)
            self._tally.latencies.append(time.monotonic() - began)


async def load(
    clients: Sequence[Client],
    tally: Tally,
    *,
    count: int,
    seed: int,
    halfway: Callable[[], Awaitable[None]],
    goes_on: Callable[[], bool],
) -> None:
    """Sends about `count` commands, one person for each client; awaits `halfway` once, half way.

    After that many, people go on at their leisure as long as `goes_on` says so.
    """
    chance, board = random.Random(seed), Board()
    crowd = [Person(client, tally, board, chance) for client in clients]
    for _ in range(min(FIRST_JOBS, count)):
        await crowd[0].post()
    steps = iter(range(count - tally.commands))
    half = (count - tally.commands) // 2

    async def busy(person: Person, steps: Iterator[int]) -> None:
        for step in steps:
            if step == half:
                await halfway()
            await person.act()
        while goes_on():
            await person.act()
            await asyncio.sleep(PAUSE)

    async with asyncio.TaskGroup() as at_once:
        for person in crowd:
            at_once.create_task(busy(person, steps))
    tally.ended = time.monotonic()
