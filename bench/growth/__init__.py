"""How cost grows: what a command takes against each thing that a service may have more of."""

from bench.growth.measure import Growth

BENCHMARK = Growth()
