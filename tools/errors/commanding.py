"""The commands, given what they cannot do."""

from tools.errors.entries import Section

commands = Section("Commands", "The status is 2 where the line or the settings are to be mended.")
SECTIONS = [commands]

MEMORY = {"BUS_AMQP_URL": "memory://", "BUS_MONGO_URL": "memory://"}

commands.command("A target without a function", "bus topology bank.build")
commands.command("A path for a module", "bus topology handlers/bank.py:build")
commands.command("A target that is not a bus", "bus topology bank:accounts")
commands.command("A target that is async", "bus topology bank:get_balance")
commands.command("A target that takes something else", "bus topology bank:BalanceView")
commands.command("An unknown module", "bus topology shops:build")
commands.command("An unknown function", "bus topology bank:start")
commands.command("A worker that cannot be asked", "bus worker bank:build --check", **MEMORY)
commands.command(
    "A worker of an unknown subscription", "bus worker bank:build --only mails", **MEMORY
)
commands.command(
    "A time that cannot be read",
    "bus events republish bank:build --to balances --since yesterday",
    **MEMORY,
)
commands.command(
    "A retry of dead letters without saying which", "bus deadletters retry bank:build", **MEMORY
)
commands.command(
    "Data twice",
    "bus deadletters edit bank:build bank.commands/7 --data '{}' --file setup.cfg",
    **MEMORY,
)
commands.command(
    "Data that is not JSON",
    "bus deadletters edit bank:build bank.commands/7 --data '{amount: 5}'",
    **MEMORY,
)
commands.command(
    "Data that is not an object",
    "bus deadletters edit bank:build bank.commands/7 --data '[5]'",
    **MEMORY,
)
commands.command(
    "Contracts that cannot be read", "bus contracts check bank:build nowhere.json", **MEMORY
)
