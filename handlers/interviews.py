"""What the commands of interviews do, wherever the bookings of rooms are kept.

Which session a handler asks for says in which database it works; so the handlers themselves stand
in `rooms_in_mongodb` and `rooms_in_sql`, and a service has those of one.
"""

from bus import Repository
from write_models.applications import Application
from write_models.interviews import (
    Booking,
    Bookings,
    CallOffInterviews,
    Interview,
    PlanInterview,
)


async def plan(
    command: PlanInterview,
    applications: Repository[Application],
    interviews: Repository[Interview],
    bookings: Bookings,
) -> str:
    """Returns the interview's id. Raises: ApplicationIsClosed, RoomIsTaken."""
    application = await applications.get(command.application_id)
    application.invite(command.interview_id)
    interview = Interview.plan(
        command.interview_id,
        application_id=application.id,
        interviewer=command.interviewer,
        room=command.room,
        hour=command.hour,
    )
    interviews.add(interview)
    await bookings.add(Booking(interview.room, interview.hour, interview.id))
    return interview.id


async def call_off(
    command: CallOffInterviews, interviews: Repository[Interview], bookings: Bookings
) -> int:
    """Returns how many interviews it has called off: all of them, or none."""
    found = await interviews.find(status="planned", **{command.by: command.value})
    for interview in found:
        interview.call_off(command.reason)
        await bookings.remove(interview.room, interview.hour)
    return len(found)
