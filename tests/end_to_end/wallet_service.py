"""The wallets as a service of its own, for worker processes: `bus worker ...:build`."""

import os

from bus import Bus, Settings
from tests.service.wallet import build as build_wallets


def build(settings: Settings) -> Bus:
    return build_wallets(settings, service=os.environ["WALLET_SERVICE"])
