"""The parcels, as the command line loads them."""

import os

from bus import Bus, Settings
from tests.service.parcels import Office
from tests.service.parcels import build as build_parcels


def build(settings: Settings) -> Bus:
    return build_parcels(settings, Office(), os.environ["PARCELS_SERVICE"])
