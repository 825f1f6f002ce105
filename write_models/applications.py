"""Applications: somebody applies for a job; the application is open until it is closed.

May import `bus` and nothing else of the service, jobs least of all: they are another bounded
context, and applications know only their own copy of it (`read_models/job_replicas.py`).
"""

from typing import Self

from bus import Aggregate, Command, Event


class SubmitApplication(Command):
    """Apply for a job."""

    application_id: str
    job_id: str
    applicant: str
    letter: str


class CloseApplication(Command):
    """End an application, with a reason."""

    application_id: str
    reason: str


class ApplicationSubmitted(Event):
    """Somebody applied; `job_title` is the title under which they knew the job."""

    application_id: str
    job_id: str
    job_title: str
    applicant: str
    letter: str


class ApplicationClosed(Event):
    """The application has ended."""

    application_id: str
    job_id: str
    reason: str


class ApplicantInvited(Event):
    """The applicant is asked to come to an interview."""

    application_id: str
    job_id: str
    interview_id: str


class UnknownJob(Exception):
    """The applications know of no such job."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id} to apply for")


class JobIsClosed(Exception):
    """The job no longer takes applications."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} is archived and takes no applications")


class ApplicationIsClosed(Exception):
    """A closed application has ended."""

    def __init__(self, application_id: str) -> None:
        super().__init__(f"application {application_id} is closed: nobody is invited any more")


class Application(Aggregate):
    """One applicant's application for one job."""

    job_id: str = ""
    closed: bool = False
    invited: bool = False

    @classmethod
    def submit(
        cls, application_id: str, *, job_id: str, job_title: str, applicant: str, letter: str
    ) -> Self:
        application = cls(application_id)
        application.record(
            ApplicationSubmitted(
                application_id=application_id,
                job_id=job_id,
                job_title=job_title,
                applicant=applicant,
                letter=letter,
            )
        )
        return application

    def invite(self, interview_id: str) -> None:
        """Invites the applicant. It is an event of the application, so that an application is not
        closed at the same time. Raises: ApplicationIsClosed."""
        if self.closed:
            raise ApplicationIsClosed(self.id)
        self.record(
            ApplicantInvited(application_id=self.id, job_id=self.job_id, interview_id=interview_id)
        )

    def close(self, reason: str) -> None:
        """Closes the application; doing so twice changes nothing."""
        if not self.closed:
            self.record(
                ApplicationClosed(application_id=self.id, job_id=self.job_id, reason=reason)
            )

    def apply(self, event: Event) -> None:
        match event:
            case ApplicationSubmitted():
                self.job_id = event.job_id
            case ApplicantInvited():
                self.invited = True
            case ApplicationClosed():
                self.closed = True
