"""Shipping: a parcel for each payment that is taken, as soon as a courier is there."""

import os
from pathlib import Path

from pydantic import BaseModel

from bus import Bus, Projection, Repository, Retry, Router, Settings, Update
from tests.shop import names
from tests.shop.events import Parcel, ParcelSent, Payment, PaymentTaken

SIGN = "SHOP_NO_COURIER"
"""The variable that names a file: as long as it is there, no courier is."""


class ParcelView(BaseModel):
    id: str
    courier: str = ""


shipping = Router("parcels_out")
parcels = Projection("parcels", of=[Parcel], view=ParcelView)


def courier_is_there() -> bool:
    return not Path(os.environ.get(SIGN, "/nowhere")).exists()


@shipping.event
async def send(event: PaymentTaken, repository: Repository[Parcel]) -> None:
    if not courier_is_there():
        raise Retry(1, "no courier is there")
    parcel = Parcel(event.order_id)
    parcel.record(ParcelSent(order_id=event.order_id, courier="Ada"))
    repository.add(parcel)


@parcels.on(ParcelSent)
def sent(event: ParcelSent) -> Update:
    return {"$set": {"courier": event.courier}}


def build(settings: Settings) -> Bus:
    return Bus(
        names.shipping(),
        routers=[shipping],
        projections=[parcels],
        foreign={Payment.category: names.payments()},
        settings=settings,
    )
