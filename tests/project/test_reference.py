"""The package of examples runs, and type-checks strictly: here under pyright, by bin/check under
mypy, which goes over this file too."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from bus import Aggregate, Bus, Event, Projection, Reject, Settings, Update, Worker
from bus.testing import given
from reference import messages as m
from reference.aggregates import NotOpen
from reference.app import build
from reference.projections import CountOpen, GetOrder, GetPrices, ListOrders
from tests.waiting import until

ROOT = Path(__file__).parents[2]


class Mails:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def mail(self, to: str, text: str) -> None:
        self.sent.append((to, text))


def order(number: str, *, lines: int = 2) -> m.PlaceOrder:
    line = m.Line(article="pen", quantity=3, price=Decimal("1.50"))
    return m.PlaceOrder(order_id=m.OrderId(number), customer="ada", lines=(line,) * lines)


async def test_the_reference_runs() -> None:
    mails = Mails()
    async with build(Settings.in_memory(), mails) as bus, Worker(bus):
        assert (await bus.execute(order("o1"))).result == 2
        await bus.execute(order("o2", lines=1))
        shipped = await bus.execute(m.ShipOrder(order_id=m.OrderId("o1")))
        assert shipped.result == "by bike"
        found = await bus.query(GetOrder(order_id=m.OrderId("o1")), after=shipped)
        assert found is not None
        assert (found.status, found.total) == ("shipped", "9.00")
        page = await bus.query(ListOrders(customer="ada"), after=shipped)
        assert [one.id for one in page.items] == ["o1", "o2"]
        cancelled = await bus.execute(m.CancelOrder(order_id=m.OrderId("o2"), reason="no pens"))
        assert await bus.query(CountOpen(), after=cancelled) == 0
        with pytest.raises(NotOpen):
            await bus.execute(m.ShipOrder(order_id=m.OrderId("o1")))
        with pytest.raises(Reject, match="10 lines"):
            await bus.execute(order("o3", lines=11))
        for price in ("1.50", "1.40"):
            set_price = m.SetPrice(market="eur", article="pen", price=Decimal(price))
            priced = await bus.execute(set_price, id=f"pen for {price}")
            assert await bus.execute(set_price, id=f"pen for {price}") == priced
        assert (priced.result, priced.versions) == (2, {"price_list-eur": 2})
        prices = await bus.query(GetPrices(market="eur"), after=priced)
        assert prices is not None
        assert prices.prices == {"pen": "1.40"}
        for code in ("c1", "c2"):
            await bus.execute(m.IssueCoupon(code=code, customer="ada"))
        for codes in (["c1", "c2"], []):
            assert (await bus.execute(m.ExpireCoupons(customer="ada"))).result == codes
        await until(lambda: len(mails.sent) == 4, "two thanks and two reminders are sent")
    assert sorted(mails.sent) == [
        ("ada", "The shop thanks you. Ada"),
        ("ada", "The shop thanks you. Ada"),
        ("o1", "Your order is still open."),
        ("o2", "Your order is still open."),
    ]


def test_nothing_of_it_is_never_served() -> None:
    with capture_logs() as lines:
        build(Settings.in_memory())
    assert lines == []


def test_what_its_page_names_is_there() -> None:
    page = (ROOT / "docs" / "reference" / "README.md").read_text()
    named = re.findall(r"`(handlers|projections|aggregates|app)\.(\w+)`", page)
    assert len(named) > 10
    for module, name in named:
        assert hasattr(importlib.import_module(f"reference.{module}"), name), name


class Sold(Event):
    article: str


class Returned(Event):
    article: str


class Till(Aggregate, events=[Sold, Returned]):
    pass


class SoldView(BaseModel):
    id: str
    sold: int = 0


class TillView(BaseModel):
    id: str


def test_what_events_have_in_common_need_be_no_class() -> None:
    sold = Projection("sold", of=[Till], view=SoldView)
    tills = Projection("tills", of=[Till], view=TillView)

    @sold.on(Sold, Returned, key=lambda event: event.article)
    def count(event: Sold | Returned) -> Update:
        return {"$inc": {"sold": 1 if isinstance(event, Sold) else -1}}

    @tills.on(Sold)
    def use(event: Sold) -> Update:
        return {}

    both = [sold, tills]
    Bus("shop", projections=both, settings=Settings.in_memory())
    given(Till, "t1", Sold(article="pen"), Returned(article="pen")).project(sold).then(
        {"pen": SoldView(id="pen", sold=0)}
    )


PROBE = """
from bus import Bus, Event, Settings, Update
from reference.projections import customers, orders

class Sold(Event):
    article: str

class Returned(Event):
    article: str

@orders.on(Sold, Returned, key=lambda event: event.article)
def count(event: Sold | Returned) -> Update:
    return {}

both = [orders, customers]
Bus("shop", projections=both, settings=Settings.in_memory())

orders.on(Sold, Returned, key=lambda event: event.nothing)  # wrong
orders.on(Sold, key=lambda event: 1)  # wrong
Bus("shop", projections=[Sold], settings=Settings.in_memory())  # wrong
"""


def test_pyright_finds_nothing_in_it_and_finds_what_is_wrong(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "reference", tmp_path / "reference")
    (tmp_path / "probe.py").write_text(PROBE)
    found = _pyright(tmp_path)
    assert found["summary"]["filesAnalyzed"] == 7
    told = {
        (Path(one["file"]).name, one["range"]["start"]["line"])
        for one in found["generalDiagnostics"]
    }
    wrong = [number for number, line in enumerate(PROBE.splitlines()) if "# wrong" in line]
    assert told == {("probe.py", number) for number in wrong}, found["generalDiagnostics"]


def _pyright(folder: Path) -> Any:
    settings = {
        "extends": str(ROOT / "pyrightconfig.json"),
        "include": ["."],
        "extraPaths": [str(ROOT)],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    shown = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "-p", str(folder), "--pythonpath",
         sys.executable],
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    return json.loads(shown.stdout)
