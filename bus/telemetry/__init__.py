"""Traces and metrics of a service, made of its signals. Nothing beneath knows of this room.

OpenTelemetry and prometheus-client are known here and nowhere else, and imported only in a process
that uses them.

switch        what a bus tells its traces and metrics to, from its opening to its closing
"""

from bus.telemetry.switch import instrument as instrument
from bus.telemetry.switch import uninstrument as uninstrument
