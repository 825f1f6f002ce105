"""Jobs: an administrator posts a job, revises it at any time, archives it, and never deletes it.

May import `bus` and nothing else of the service: a write model decides, and knows neither its
callers nor its readers.
"""

from typing import Self

from bus import Aggregate, Command, Event


class PostJob(Command):
    """Post a job under an unused id."""

    job_id: str
    title: str
    description: str


class ReviseJob(Command):
    """Revise a job; `version` is the one that its author saw, to protect newer revisions."""

    job_id: str
    version: int
    title: str
    description: str


class ArchiveJob(Command):
    """Take a job off the board for good."""

    job_id: str


class JobPosted(Event):
    """The job is open."""

    job_id: str
    title: str
    description: str


class JobRevised(Event):
    """The job now says this; the event carries all of it, not the difference."""

    job_id: str
    title: str
    description: str


class JobArchived(Event):
    """The job no longer takes applications."""

    job_id: str


class StaleVersion(Exception):
    """Somebody has revised the job since its author read it."""

    def __init__(self, job_id: str, *, seen: int, current: int) -> None:
        super().__init__(
            f"job {job_id} is at version {current}, and you saw {seen}; read it again, then decide"
        )


class JobIsArchived(Exception):
    """An archived job stays as it is."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} is archived and cannot be revised")


class Job(Aggregate):
    """A job, from its posting to the archive."""

    archived: bool = False

    @classmethod
    def post(cls, job_id: str, *, title: str, description: str) -> Self:
        job = cls(job_id)
        job.record(JobPosted(job_id=job_id, title=title, description=description))
        return job

    def revise(self, *, seen: int, title: str, description: str) -> None:
        """Changes what the job says. Raises: JobIsArchived, StaleVersion."""
        if self.archived:
            raise JobIsArchived(self.id)
        if seen != self.version:
            raise StaleVersion(self.id, seen=seen, current=self.version)
        self.record(JobRevised(job_id=self.id, title=title, description=description))

    def archive(self) -> None:
        """Archives the job; doing so twice changes nothing."""
        if not self.archived:
            self.record(JobArchived(job_id=self.id))

    def apply(self, event: Event) -> None:
        match event:
            case JobPosted() | JobRevised():
                pass  # what a job says is for its readers; no decision depends on it
            case JobArchived():
                self.archived = True
