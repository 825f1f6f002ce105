"""The peer messagebus: a function that gets a dependency by name, in a unit of work of its own.

It has no middleware, so it takes part where none is asked for.
"""

from typing import Any

from messagebus import (
    AsyncAbstractUnitOfWork,
    AsyncDependency,
    AsyncMessageBus,
    AsyncUnitOfWorkTransaction,
    Command,
    Metadata,
)

from bench import side


class Greet(Command):
    name: str
    metadata: Metadata = Metadata(name="greet", schema_version=1)


class Greeter(AsyncDependency):
    async def on_after_commit(self) -> None:
        pass

    async def on_after_rollback(self) -> None:
        pass


class UnitOfWork(AsyncAbstractUnitOfWork[Any, Any, Any]):
    async def commit(self) -> None:
        pass

    async def rollback(self) -> None:
        pass


async def greet(
    command: Greet, uow: AsyncUnitOfWorkTransaction[UnitOfWork], greeter: Greeter
) -> None:
    pass


async def measure(arguments: side.Arguments) -> side.Metrics:
    bus: AsyncMessageBus[UnitOfWork] = AsyncMessageBus(greeter=Greeter)
    bus.add_listener(Greet, greet)
    command = Greet(name="Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            async with UnitOfWork() as transaction:
                await bus.handle(command, transaction)
                await transaction.commit()

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
