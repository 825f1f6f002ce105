"""Interviews: an applicant is invited into a room for an hour, and may be called off again.

May import `bus` and nothing else of the service. That a room is taken is nothing that one interview
can know; `Bookings` is what a place for them owes, wherever they are kept.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, Self

from bus import Aggregate, Command, Event


class PlanInterview(Command):
    """Invite an applicant, and book the room; `hour` is written like "2026-03-02 09:00"."""

    interview_id: str
    application_id: str
    interviewer: str
    room: str
    hour: str


class CallOffInterviews(Command):
    """Call off what is planned: all that has this value in the field that `by` names."""

    by: Literal["interviewer", "application_id"]
    value: str
    reason: str


class InterviewPlanned(Event):
    """The interview takes place, and the room is booked for it."""

    interview_id: str
    application_id: str
    interviewer: str
    room: str
    hour: str


class InterviewCalledOff(Event):
    """The interview does not take place, and others may have the room."""

    interview_id: str
    reason: str


class RoomIsTaken(Exception):
    """Somebody else has the room for that hour."""

    def __init__(self, room: str, hour: str) -> None:
        super().__init__(f"room {room} is taken at {hour}")


class Interview(Aggregate, stored="state", indexes=["interviewer", "application_id"]):
    """One interview. It is stored by its state, because it is found by whom it concerns."""

    status: Literal["planned", "called off"] = "planned"
    application_id: str = ""
    interviewer: str = ""
    room: str = ""
    hour: str = ""

    @classmethod
    def plan(
        cls, interview_id: str, *, application_id: str, interviewer: str, room: str, hour: str
    ) -> Self:
        interview = cls(interview_id)
        interview.record(
            InterviewPlanned(
                interview_id=interview_id,
                application_id=application_id,
                interviewer=interviewer,
                room=room,
                hour=hour,
            )
        )
        return interview

    def call_off(self, reason: str) -> None:
        """Calls the interview off; doing so twice changes nothing."""
        if self.status == "planned":
            self.record(InterviewCalledOff(interview_id=self.id, reason=reason))

    def apply(self, event: Event) -> None:
        match event:
            case InterviewPlanned():
                self.application_id = event.application_id
                self.interviewer = event.interviewer
                self.room, self.hour = event.room, event.hour
            case InterviewCalledOff():
                self.status = "called off"


@dataclass
class Booking:
    """A room for an hour, which nobody else has meanwhile. Knows nothing of documents or tables."""

    room: str
    hour: str
    interview_id: str


class Bookings(Protocol):
    """The bookings, in one transaction with the events of a command."""

    async def add(self, booking: Booking) -> None:
        """Raises: RoomIsTaken."""
        ...

    async def remove(self, room: str, hour: str) -> None: ...
