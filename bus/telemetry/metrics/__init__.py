"""Metrics of a service, made of its signals.

In reading order:

catalogue   names them all
tally       counts what the signals say
states      knows what was measured last of the whole service
processes   adds up those of several processes behind one port
attached    the metrics of a bus in this process, and where they are shown
prometheus  shows them as text
meter       tells them to OpenTelemetry
"""

from bus.telemetry.metrics.attached import attach as attach
from bus.telemetry.metrics.attached import collector as collector
from bus.telemetry.metrics.attached import page as page
