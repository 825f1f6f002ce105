"""Our side with a state beside each commit, in one transaction each."""

from bench import side
from bench.append.ours import commit_of, measure
from bus.stores.event_log import Commit, Snapshot


def with_state(number: int) -> Commit:
    commit = commit_of(number)
    state = {"owner": "Ada", "balance": number, "open": True}
    return commit._replace(state=Snapshot(commit.stream, 1, "1", state))


async def measure_states(arguments: side.Arguments) -> side.Metrics:
    return await measure(arguments, with_state)


if __name__ == "__main__":
    side.run(measure_states)
