"""The shop of three services, without anybody who looks on: an order goes through all of them."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.shop import payments
from tests.shop.processes import Shop, running
from tests.waiting import until

FOLDER = Path(__file__).parents[1] / "shop"
THE_SERVICES = ("__init__", "names", "events", "orders", "payments", "shipping", "http")
TELEMETRY = re.compile(r"opentelemetry|prometheus|otel|signals|telemetry|trace|\bspan|metric", re.I)


@pytest.fixture
async def shop(amqp_url: str, mongo_url: str, unique: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with running(amqp_url, mongo_url, unique, tmp_path) as shop:
        yield shop


async def test_an_order_goes_through_three_services_and_shows_on_the_board(shop: Shop) -> None:
    order_id = await shop.place()
    await shop.until_shown(order_id, article="a chair", paid=40, courier="Ada")
    await shop.cancel(order_id)
    await shop.until_shown(order_id, state="cancelled", paid=0)


async def test_a_parcel_waits_for_a_courier(shop: Shop) -> None:
    shop.no_courier.touch()
    order_id = await shop.place()
    await shop.until_shown(order_id, paid=40)
    shipping = shop.processes["shipping"]
    await until(lambda: "put_off" in shipping.log(), "the parcel is put off")
    assert not (await shop.shown(order_id))["courier"]
    shop.no_courier.unlink()
    await shop.until_shown(order_id, courier="Ada")


async def test_a_payment_that_the_bank_refuses_is_a_dead_letter_and_no_other_waits_for_it(
    shop: Shop, mongo_url: str
) -> None:
    refused = await shop.place(card=payments.DECLINED)
    other = await shop.place()
    await shop.until_shown(other, courier="Ada")
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        letters = client[f"{shop.name}_payments"]["dead_letters"]
        await until(lambda: letters.count_documents({}), "the payment is given up")
    assert (await shop.shown(refused))["paid"] == 0


@pytest.mark.parametrize("name", THE_SERVICES)
def test_no_service_has_a_line_of_telemetry(name: str) -> None:
    """A handler that knew of it could not show what one is told without."""
    assert not TELEMETRY.findall((FOLDER / f"{name}.py").read_text())
