"""Script: what each author of the load does, drawn from the seed; nothing here knows of time.

An author posts a job and revises it, step by step; now and then somebody applies for it, it is
archived, a stale revision is tried, or a command is repeated; then money moves between purses. The
same seed gives the same commands, with the same ids, whatever happens to them.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from bus import Command
from tools.soak.service import MoveMoney, OpenPurse
from write_models.applications import SubmitApplication
from write_models.jobs import ArchiveJob, PostJob, ReviseJob

REVISIONS = (8, 16)
APPLIES, ARCHIVES, STALE, REPEATS, MOVES = 0.25, 0.08, 0.1, 0.1, (0, 3)
PURSES = 60
"""Among so many most money moves: so few that commands of two streams meet in one."""
RECENT = (400, 200)
WORDS = ("baker", "night", "bread", "early", "town", "kind", "team", "oven", "flour", "shift")


class Step(NamedTuple):
    """A command with its id, and the refusals that are right for it; `reads_own` has it wait until
    the read models include what its author wrote before."""

    id: str
    command: Command
    may: tuple[str, ...] = ()
    reads_own: bool = False


def script(seed: int, author: int) -> Iterator[Step]:
    """The steps of one author, who alone revises the job `j<author>`."""
    draw = Random(f"{seed}/{author}")
    job = f"j{author}"
    number = 0

    def step(command: Command, *may: str, reads_own: bool = False) -> Step:
        nonlocal number
        number += 1
        return Step(f"{author}.{number}", command, may, reads_own)

    yield step(PostJob(job_id=job, title=_words(draw, 3), description=_words(draw, 12)))
    revisions = draw.randint(*REVISIONS)
    for version in range(1, revisions + 1):
        text = {"title": _words(draw, 3), "description": _words(draw, 12)}
        revise = step(ReviseJob(job_id=job, version=version, **text))
        yield revise
        if draw.random() < REPEATS / revisions:
            yield revise
    if draw.random() < STALE:
        stale = ReviseJob(job_id=job, version=1, title="stale", description="stale")
        yield step(stale, "StaleVersion")
    if draw.random() < APPLIES:
        yield step(_application(draw, f"a{author}", job), reads_own=True)
    if draw.random() < APPLIES and author > RECENT[0]:
        other = f"j{draw.randrange(author - RECENT[0], author - RECENT[1])}"
        yield step(_application(draw, f"b{author}", other), "UnknownJob", "JobIsClosed")
    if draw.random() < ARCHIVES:
        yield step(ArchiveJob(job_id=job))
    if author < PURSES:
        yield step(OpenPurse(purse_id=f"p{author}"))
    for _ in range(draw.randint(*MOVES)):
        source, target = (f"p{number}" for number in draw.sample(range(PURSES), 2))
        move = MoveMoney(source=source, target=target, amount=draw.randint(1, 50))
        yield step(move, "UnknownPurse", "PurseIsEmpty")


def author_of(step_id: str) -> int:
    """Whose step it is."""
    return int(step_id.partition(".")[0])


def _application(draw: Random, application: str, job: str) -> SubmitApplication:
    return SubmitApplication(
        application_id=application, job_id=job, applicant=draw.choice(WORDS), letter=_words(draw, 8)
    )


def _words(draw: Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=count))
