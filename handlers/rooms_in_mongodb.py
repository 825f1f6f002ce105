"""Rooms booked in MongoDB: a document of the service's own for each room and hour."""

from dataclasses import asdict

from bus import Repository, Router, Session
from handlers.interviews import call_off, plan
from write_models.applications import Application
from write_models.interviews import (
    Booking,
    Bookings,
    CallOffInterviews,
    Interview,
    PlanInterview,
    RoomIsTaken,
)

BOOKINGS = "bookings"

interviews = Router("interviews")


class BookedDocuments(Bookings):
    """Maps bookings to documents, whose ids name room and hour."""

    def __init__(self, session: Session) -> None:
        self._documents = session.documents(BOOKINGS)

    async def add(self, booking: Booking) -> None:
        """Of two that write one document at once, the later one runs again, and finds it."""
        key = _key(booking.room, booking.hour)
        if await self._documents.find_one({"_id": key}):
            raise RoomIsTaken(booking.room, booking.hour)
        await self._documents.update(key, {"$set": asdict(booking)})

    async def remove(self, room: str, hour: str) -> None:
        await self._documents.delete(_key(room, hour))


def _key(room: str, hour: str) -> str:
    return f"{hour} {room}"


@interviews.command
async def plan_interview(
    command: PlanInterview,
    applications: Repository[Application],
    repository: Repository[Interview],
    session: Session,
) -> str:
    return await plan(command, applications, repository, BookedDocuments(session))


@interviews.command
async def call_off_interviews(
    command: CallOffInterviews, repository: Repository[Interview], session: Session
) -> int:
    return await call_off(command, repository, BookedDocuments(session))
