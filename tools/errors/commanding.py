"""The commands, given what they cannot do."""

from tools.errors.entries import Section

commands = Section("Commands", "The status is 2 where the line or the settings are to be mended.")
SECTIONS = [commands]

MEMORY = {"BUS_AMQP_URL": "memory://", "BUS_MONGO_URL": "memory://"}

commands.command(
    "A target without a function",
    "ConfigurationError: 'bank.build' is not an import string: it names no function",
    "bus topology show bank.build",
)
commands.command(
    "A path for a module",
    "ConfigurationError: 'handlers/bank.py:build' is a path",
    "bus topology show handlers/bank.py:build",
)
commands.command(
    "A target that is not a bus",
    "ConfigurationError: bank:accounts is a Router",
    "bus topology show bank:accounts",
)
commands.command(
    "A target that is async",
    "ConfigurationError: bank:get_balance is an async function",
    "bus topology show bank:get_balance",
)
commands.command(
    "A target that takes something else",
    "ConfigurationError: bank:BalanceView takes",
    "bus topology show bank:BalanceView",
)
commands.command(
    "An unknown module",
    "ConfigurationError: there is no module 'shops' in /home/ada/bank or among the installed",
    "bus topology show shops:build",
)
commands.command(
    "An unknown function",
    "ConfigurationError: module 'bank' has no 'start' in /home/ada/bank/bank.py",
    "bus topology show bank:start",
)
commands.command(
    "A worker that cannot be asked",
    "ConfigurationError: the worker cannot be asked: set BUS_HEALTH_PORT to a free port, for the",
    "bus worker bank:build --check",
    **MEMORY,
)
commands.command(
    "A worker of an unknown subscription",
    "ConfigurationError: service 'bank' has no subscription of that name",
    "bus worker bank:build --only mails",
    **MEMORY,
)
commands.command(
    "A part that the doctor does not know",
    "ConfigurationError: there is no part 'brocker' to examine; there are settings, libraries",
    "bus doctor bank:build --only brocker",
    **MEMORY,
)
commands.command(
    "An aggregate that has no states",
    "ConfigurationError: Account is stored by its events, and has no states; write class Account(",
    "bus aggregates store bank:build Account",
    **MEMORY,
)
commands.command(
    "A time that cannot be read",
    "Error: 'yesterday' is not a valid time: write 2026-11-28T22:00, 2026-11-28T22:00+01:00",
    "bus events republish bank:build --to balances --since yesterday",
    **MEMORY,
)
commands.command(
    "A retry of dead letters without saying which",
    "Error: say which",
    "bus deadletters retry bank:build",
    **MEMORY,
)
commands.command(
    "Data twice",
    "Error: give --data or --file, not both",
    "bus deadletters edit bank:build bank.commands/7 --data '{}' --file setup.cfg",
    **MEMORY,
)
commands.command(
    "Data that is not JSON",
    "Error: the data is not JSON: key must be a string at line 1 column 2",
    "bus deadletters edit bank:build bank.commands/7 --data '{amount: 5}'",
    **MEMORY,
)
commands.command(
    "Data that is not an object",
    "Error: the data must be a JSON object with the message's fields",
    "bus deadletters edit bank:build bank.commands/7 --data '[5]'",
    **MEMORY,
)
commands.command(
    "Contracts that cannot be read",
    "Error: there is no file nowhere.json",
    "bus contracts check bank:build nowhere.json",
    **MEMORY,
)
