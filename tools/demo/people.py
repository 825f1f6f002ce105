"""Jobs and applicants that a person can tell apart when reading them."""

import random

TRADES = (
    "Baker", "Bookbinder", "Bus driver", "Carpenter", "Clockmaker", "Cook", "Electrician",
    "Gardener", "Glazier", "Librarian", "Mason", "Midwife", "Nurse", "Piano tuner", "Plumber",
    "Signaller", "Surveyor", "Tailor", "Teacher", "Translator", "Tram driver", "Upholsterer",
    "Vet", "Weaver",
)  # fmt: skip
PLACES = (
    "Aarhus", "Bergen", "Bologna", "Bruges", "Cork", "Ghent", "Graz", "Leeds", "Lund", "Malmö",
    "Nantes", "Porto", "Siena", "Tartu", "Turku", "Utrecht",
)  # fmt: skip
HOURS = ("Early shifts", "Night shifts", "Weekends", "Three days a week", "Full time")
REASONS = ("the last one retired", "the shop grows", "the season begins", "we open a second house")
FIRST = (
    "Ada", "Alan", "Barbara", "Bjarne", "Dorothy", "Edsger", "Frances", "Grace", "Hedy", "John",
    "Katherine", "Ken", "Leslie", "Margaret", "Niklaus", "Radia", "Robin", "Sophie", "Tony",
)  # fmt: skip
LAST = (
    "Abbott", "Berg", "Costa", "Dahl", "Evans", "Fischer", "Greco", "Hoffmann", "Ivanova",
    "Jansen", "Kelly", "Lund", "Moreau", "Nagy", "Olsen", "Peeters", "Rossi", "Silva", "Virtanen",
)  # fmt: skip
ROOMS = ("Attic", "Garden", "Library", "Workshop")
INTERVIEWERS = (
    "Anna Dahl", "Ingrid Berg", "Jan Peeters", "Maria Costa", "Paolo Greco", "Sofia Lund",
    "Tomas Nagy", "Vera Silva",
)  # fmt: skip
DAYS, HOURS_OF_A_DAY = 5, range(9, 17)


def job(chance: random.Random) -> dict[str, str]:
    return {
        "title": f"{chance.choice(TRADES)} in {chance.choice(PLACES)}",
        "description": f"{chance.choice(HOURS)}. Wanted because {chance.choice(REASONS)}.",
    }


def applicant(chance: random.Random) -> str:
    return f"{chance.choice(FIRST)} {chance.choice(LAST)}"


def letter(chance: random.Random) -> str:
    return f"I have done this for {chance.randint(2, 30)} years and should like to do it with you."


def interview(chance: random.Random) -> dict[str, str]:
    """Who asks the questions, where and when: so few rooms and hours that some are taken."""
    hour = f"2026-03-{chance.randint(2, 1 + DAYS):02} {chance.choice(HOURS_OF_A_DAY):02}:00"
    return {"interviewer": interviewer(chance), "room": chance.choice(ROOMS), "hour": hour}


def interviewer(chance: random.Random) -> str:
    return chance.choice(INTERVIEWERS)
