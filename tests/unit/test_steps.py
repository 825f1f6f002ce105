"""A snapshot is not used where the state that the events give may be another one by now."""

import sys
from types import ModuleType

import pytest

SHOP = '''
"""A shop, of which each line that a change below names matters to its state, or does not."""
import dataclasses
import enum
from functools import cached_property, partial, singledispatchmethod
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, Field, field_validator

from bus import Aggregate, Event

RATE = 7
RATES: dict[str, Any] = {"a": 1}
cache: dict[str, Any] = {}


class Kind(enum.Enum):
    ODD = "odd"
    EVEN = "even"


class Sold(Event):
    amount: int

    @classmethod
    def upcast(cls, data, schema):
        return {**data, "amount": 100}


class Kept(Event):
    amount: int


class Line(BaseModel):
    amount: int = 0

    @field_validator("amount")
    @classmethod
    def _check(cls, value):
        return abs(value)

    def doubled(self):
        return self.amount * 2


class Total(BaseModel):
    lines: list[Line] = []

    def __iadd__(self, line):
        self.lines.append(line)
        return self


@dataclasses.dataclass
class Limit:
    most: int = 9

    def __post_init__(self):
        self.most = self.most + 1


class Pricing:
    SHARE = 4

    def price(self, amount):
        return amount * RATE - self.SHARE


def in_words(amount):
    return f"{amount} pieces"


def rounded(amount, step=5, words=in_words, *, least=6):
    return max(least, amount - amount % step)


def in_other_words(amount):
    return f"{amount} parts"


def first_of(pair):
    return pair[0] + 13


def on_kept(shop, event):
    shop.count += event.amount + 11


def made():
    return ["first"]


pricing = Pricing()
TABLE = {Kept: on_kept, Sold: [(first_of, 1)]}
SHARES = ((Kept, 14), (Sold, 15))
positive = AfterValidator(lambda value: value + 0)


class Base(Aggregate):
    count: int = 0

    def apply(self, event: Event) -> None:
        self.count += 21

    def _mixed(self):
        return self.count + 31


class Shop(Base, events=[Sold, Kept], snapshot_every=1):
    STEP = 41
    WORDS: ClassVar[str] = "none"
    total: Total = Total(lines=[Line(amount=51)])
    limit: Limit | None = None
    marked: Annotated[int, positive] = 61
    names: Final[list[str]] = ["name"]
    made: list[str] = Field(default_factory=made)

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.started: int = 71

    started: int

    def apply(self, event: Event) -> None:
        """Says what it does."""
        super().apply(event)
        match event:
            case Sold():
                self.count += rounded(event.amount) + self.fee + self.STEP
                self.count += dict(SHARES)[Sold]
                self.total += Line(amount=pricing.price(event.amount))
                if Kind("odd") is Kind.ODD:
                    cache[str(event.amount)] = event
            case _:
                TABLE[type(event)](self, event)
                getattr(self, "_on_" + type(event).__name__.lower())(event)

    @property
    def fee(self):
        return self._part() + 81

    def _part(self):
        return partial(self._mixed)()

    def _on_kept(self, event):
        self.count += 91

    @cached_property
    def title(self):
        return self.WORDS
'''
WITHOUT_NAMES = SHOP.replace(
    '                getattr(self, "_on_" + type(event).__name__.lower())(event)\n', ""
)


def shape(source: str) -> str:
    """The shape of a shop's snapshots, in the module that this is."""
    module = ModuleType("shop_of_steps")
    sys.modules["shop_of_steps"] = module
    try:
        exec(source, vars(module))
        snapshot = vars(module)["Shop"]("s1").to_snapshot()
    finally:
        del sys.modules["shop_of_steps"]
    return str(snapshot.shape)


MATTERS = [
    ("RATE = 7", "RATE = 8"),
    ("SHARE = 4", "SHARE = 5"),
    ("STEP = 41", "STEP = 42"),
    ("step=5", "step=7"),
    ("least=6", "least=7"),
    ('f"{amount} pieces"', 'f"{amount} bits"'),
    ("pair[0] + 13", "pair[0] + 14"),
    ("(Sold, 15)", "(Sold, 16)"),
    ('ODD = "odd"', 'ODD = "odder"'),
    ('"amount": 100', '"amount": 101'),
    ("return abs(value)", "return -abs(value)"),
    ("self.lines.append(line)", "self.lines.insert(0, line)"),
    ("self.most = self.most + 1", "self.most = self.most + 2"),
    ("amount * RATE - self.SHARE", "amount * RATE + self.SHARE"),
    ("amount - amount % step", "amount + amount % step"),
    ("event.amount + 11", "event.amount + 12"),
    ('return ["first"]', 'return ["second"]'),
    ("value + 0", "value + 1"),
    ("self.count += 21", "self.count += 22"),
    ("self.count + 31", "self.count + 32"),
    ("amount=51", "amount=52"),
    ("= 61", "= 62"),
    ('["name"]', '["other"]'),
    ("int = 71", "int = 72"),
    ("self._part() + 81", "self._part() + 82"),
    ("self.count += 91", "self.count += 92"),
    ("count: int = 0", "count: int = 1"),
    ("TABLE = {Kept: on_kept", "TABLE = {Kept: in_words"),
]
DOES_NOT = [
    ("Says what it does.", "Says it in other words."),
    ('f"{amount} parts"', 'f"{amount} bits"'),
    ("cache: dict[str, Any] = {}", 'cache: dict[str, Any] = {"seen": 1}'),
    ("return self.amount * 2\n", "return self.amount * 2\n\n\nMORE = 1\n"),
]


@pytest.mark.parametrize(("now", "later"), MATTERS)
def test_what_may_give_another_state_gives_another_shape(now: str, later: str) -> None:
    assert SHOP.count(now) == 1
    assert shape(SHOP.replace(now, later)) != shape(SHOP)


@pytest.mark.parametrize(("now", "later"), DOES_NOT)
def test_what_gives_the_same_state_keeps_the_shape(now: str, later: str) -> None:
    assert SHOP.count(now) == 1
    assert shape(SHOP.replace(now, later)) == shape(SHOP)


def test_methods_that_apply_does_not_use_count_where_it_finds_some_by_name() -> None:
    now, later = "return self.WORDS", "return self.WORDS * 2"
    assert shape(SHOP.replace(now, later)) != shape(SHOP)
    assert shape(WITHOUT_NAMES.replace(now, later)) == shape(WITHOUT_NAMES)


RULES = """
from shop_of_steps import other

def price(amount):
    return amount + 1 + other.SHARE
"""
MODEL = """
from bus import Aggregate, Event
{outside}

class Sold(Event):
    amount: int

class Shop(Aggregate, snapshot_every=1):
    count: int = 0

    def apply(self, event: Event) -> None:
        {inside}
        match event:
            case Sold():
                self.count += {call}(event.amount)
"""
IMPORTED = [
    ("from shop_of_steps.rules import price", "", "price"),
    ("from shop_of_steps import rules", "", "rules.price"),
    ("import shop_of_steps.rules", "", "shop_of_steps.rules.price"),
    ("import shop_of_steps.rules as priced", "", "priced.price"),
    ("", "from shop_of_steps.rules import price", "price"),
    ("", "from shop_of_steps import rules", "rules.price"),
    ("", "import shop_of_steps.rules", "shop_of_steps.rules.price"),
]


@pytest.mark.parametrize(("outside", "inside", "call"), IMPORTED)
def test_other_modules_of_the_package_count(
    monkeypatch: pytest.MonkeyPatch, outside: str, inside: str, call: str
) -> None:
    def shape_by(rules: str, other: str) -> str:
        sources = {
            "": "",
            ".other": other,
            ".rules": rules,
            ".model": MODEL.format(outside=outside, inside=inside, call=call),
        }
        for name, source in sources.items():
            module = ModuleType(f"shop_of_steps{name}")
            vars(module)["__path__"] = []
            monkeypatch.setitem(sys.modules, module.__name__, module)
            if name:
                setattr(sys.modules["shop_of_steps"], name[1:], module)
            exec(source, vars(module))
        return str(vars(module)["Shop"]("s1").to_snapshot().shape)

    first = shape_by(RULES, "SHARE = 5")
    assert first == shape_by(RULES, "SHARE = 5")
    assert first != shape_by(RULES.replace("+ 1", "+ 2"), "SHARE = 5")
    assert first != shape_by(RULES, "SHARE = 6")
