"""The names of the services, which are also those of their databases."""

import os


def orders() -> str:
    return f"{_shop()}_orders"


def payments() -> str:
    return f"{_shop()}_payments"


def shipping() -> str:
    return f"{_shop()}_shipping"


def _shop() -> str:
    return os.environ.get("SHOP") or "shop"
