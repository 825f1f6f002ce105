"""Traces and metrics of a service, made of its signals. Nothing beneath knows of this room.

OpenTelemetry and prometheus-client are known here and nowhere else, and imported only in a process
that uses them.

switch        has a bus tell its traces and metrics, from its opening to its closing
instrumentor  starts it by automatic instrumentation
tracing       spans of OpenTelemetry
facts         measures the states of a service, in one of its workers
metrics       counts and states, for Prometheus and for OpenTelemetry
"""

from bus.telemetry.switch import instrument as instrument
from bus.telemetry.switch import uninstrument as uninstrument
