"""The peer lato: an application with a handler function, whose parameters it fills by type."""

from typing import Any

from lato import Application, Command, TransactionContext

from bench import side


class Greeter:
    """The dependency."""


class Greet(Command):
    name: str


async def pass_on(context: TransactionContext, call_next: Any) -> Any:
    return await call_next()


async def measure(arguments: side.Arguments) -> side.Metrics:
    app = Application("greetings", greeter=Greeter())

    @app.handler(Greet)
    async def greet(command: Greet, greeter: Greeter) -> None:
        pass

    if arguments["middleware"] != "as it comes":
        app.transaction_middleware(pass_on)
        app.transaction_middleware(pass_on)
    command = Greet(name="Ada")

    async def loop(count: int) -> None:
        for _ in range(count):
            await app.execute_async(command)

    return await side.best_of(arguments["loops"], loop, arguments["count"])


if __name__ == "__main__":
    side.run(measure)
