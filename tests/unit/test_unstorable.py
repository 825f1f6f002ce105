"""What no document can hold is the handler's mistake, in memory as in MongoDB: never a crash."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel, model_serializer, model_validator

from bus import Aggregate, Event, Projection, ProjectionError, Update
from bus.testing import given


class Done(Event):
    pass


class Work(Aggregate, events=[Done]):
    pass


class WorkView(BaseModel):
    id: str


class Money(BaseModel):
    """Is read from what it writes, and from nothing else."""

    amount: int
    currency: str

    @model_validator(mode="before")
    @classmethod
    def parse(cls, value: Any) -> dict[str, Any]:
        amount, currency = value.split()
        return {"amount": amount, "currency": currency}

    @model_serializer
    def written(self) -> str:
        return f"{self.amount} {self.currency}"


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        "\ud800",
        {"\0": 1},
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        timedelta.max,
        Money.model_construct(amount=1, currency="EUR"),
    ],
)
def test_a_value_that_no_document_holds_is_refused_by_its_document(value: Any) -> None:
    projection = Projection("work", of=[Work], view=WorkView)

    @projection.on(Done)
    def done(event: Done) -> Update:
        return {"$set": {"value": value}}

    with pytest.raises(ProjectionError, match="w1"):
        given(Work, "w1", Done()).project(projection)
