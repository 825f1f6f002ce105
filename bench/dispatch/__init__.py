"""One command dispatched in process: one dependency filled in, no aggregate, no I/O.

Each side dispatches the same command object again and again from one task: a warm-up loop, then
the fastest of several loops in one process; and that anew for each round.

| side | middleware | fills dependencies | how it is used here |
|---|---|---|---|
| doubledecker | yes | by type, when the bus is built | its default middleware: logging, retry |
| py-mediatr | yes | by type, through its container | handler class from the container |
| mediary | yes | by type, through a resolver | handler class, `lifetime="singleton"` |
| cqrs-bus | yes | by type, when handlers are built | handler class, `CommandBus` |
| lato | yes | by name or type, at each call | function, `Application` |
| python-cqrs | yes | by type, through `di` at each call | `bootstrap`, which adds logging |
| messagebus | no | by name, made anew at each call | function, unit of work, commit |
| kerux | yes | no: by hand | handler object |
| mediatorx | yes | no: a factory by hand | handler class, `DictResolver` |

Only those with both are held against us as goals. A peer's dispatch does less than ours in any
case: ours gives each command an identity and a time, opens a unit of work, and returns a receipt.

Cases:

- "as it comes": nothing is added to anybody. Ours has its logging and its retry on conflict then,
  and of the peers only python-cqrs has any middleware (its logging).
- "logging and retry": peers get what ours has by default. Those that ship logging and retry
  middleware (py-mediatr, mediary) use them as documented, python-cqrs its logging and one more,
  the others two that only pass on. Nothing is logged by anybody: the level is WARNING.
- "two more": two middlewares that only pass on, for everyone; ours keeps its own two as well.
"""

from bench.comparison import Case, Comparison, Goal, Side

PLAIN, LIKE_OURS, TWO_MORE = "as it comes", "logging and retry", "two more"
WITH_BOTH = ("py-mediatr", "mediary", "cqrs-bus", "lato", "python-cqrs")

BENCHMARK = Comparison(
    "dispatch",
    "microseconds for one command dispatched in process, with one dependency filled in",
    sides=[
        Side("doubledecker", "ours.py"),
        Side("doubledecker query", "ours_query.py"),
        Side("look-up and await (floor)", "floor.py", cases=[PLAIN]),
        Side("py-mediatr", "py_mediatr_style.py", peer=True),
        Side("mediary", "mediary_style.py", peer=True),
        Side("cqrs-bus", "cqrs_bus_style.py", peer=True),
        Side("lato", "lato_style.py", peer=True, share=0.25),
        Side("python-cqrs", "python_cqrs_style.py", peer=True, share=0.25),
        Side("messagebus", "messagebus_style.py", peer=True, cases=[PLAIN]),
        Side("kerux", "kerux_style.py", peer=True),
        Side("mediatorx", "mediatorx_style.py", peer=True),
    ],
    cases=[
        Case(label, {"count": 20_000, "loops": 7, "middleware": label}, quick={"loops": 4})
        for label in (PLAIN, LIKE_OURS, TWO_MORE)
    ],
    goals=[
        *(Goal(peer, at_most=0.5) for peer in WITH_BOTH),
        Goal("look-up and await (floor)", at_most=20, cases=[PLAIN]),
    ],
    metric="microseconds",
    also=("memory_mb",),
)
