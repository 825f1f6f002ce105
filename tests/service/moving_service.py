"""The bank whose log is moved, as the command line loads it."""

import os

from bus import Bus, Settings
from tests.service.moving import Bell, bank


def build(settings: Settings) -> Bus:
    return bank(settings, os.environ["MOVING_SERVICE"], Bell())
