"""The orders, which need no MongoDB, as the command line loads them."""

import os

from bus import Bus, Settings
from tests.service import ordering


def build(settings: Settings) -> Bus:
    return ordering.build(settings, service=os.environ["ORDERING_SERVICE"])
