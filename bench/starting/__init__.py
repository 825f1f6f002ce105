"""What a process costs before it has done anything, and what it keeps.

Every process starts from a folder that holds what installing the side would bring, without `.pth`
files and with bytecode: libraries use what they find (MongoDB's driver imports `cryptography`,
which only our tests need), and sources compiled anew at each start would count as slowness.

- "import": `import bus` against `import faststream.rabbit`, timed inside of a fresh interpreter,
  median of several.
- "ready": from starting the process until a worker consumes, with a projection and an event
  handler, against two subscribers of FastStream. Ours is ready when its health says so. On fresh
  queues; "ready again" is the second start, on what the first one declared.
- "memory": a worker's resident memory, ready and idle for two seconds, and the most it held while
  it consumed 20,000 events into MongoDB (5,000 in a quick run).

What ours does at its start that FastStream's does not: it makes the indexes of its event log and
its own records, declares a ladder of delay queues, a dead queue and a queue of commands (ten queues
against two), opens two connections to the broker, sweeps its projection, and runs a relay.
"""

from bench.comparison import Case, Comparison, Goal, Side

READY = ("ready", "ready again")

BENCHMARK = Comparison(
    "starting",
    "milliseconds until ready, and memory",
    sides=[Side("doubledecker", "ours.py"), Side("faststream", "faststream_style.py", peer=True)],
    cases=[
        Case("import", {"what": "import", "count": 15}, quick={"count": 9}),
        Case("ready", {"what": "ready"}),
        Case("ready again", {"what": "ready", "again": True}),
        Case("memory", {"what": "memory", "count": 20_000}, quick={"count": 5000}),
    ],
    goals=[
        Goal("faststream", at_most=1.0, cases=["import", *READY]),
        Goal("faststream", at_most=1.0, cases=["import", *READY], metric="cpu_ms"),
        Goal("faststream", at_most=1.0, cases=["memory"], metric="idle_mb"),
        Goal("faststream", at_most=1.0, cases=["memory"], metric="peak_mb"),
    ],
    metric="milliseconds",
    also=("cpu_ms", "imported_mb", "idle_mb", "loaded_mb", "peak_mb"),
)
