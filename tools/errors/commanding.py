"""The commands, given what they cannot do."""

from tools.errors.entries import Section

commands = Section("Commands", "The status is 2 where the line or the settings are to be mended.")
SECTIONS = [commands]

MEMORY = {"BUS_AMQP_URL": "memory://", "BUS_MONGO_URL": "memory://"}

commands.command("A target that is no import string", "bus topology bank.build")
commands.command("A module that there is not", "bus topology shops:build")
commands.command("A function that there is not", "bus topology bank:start")
commands.command("A worker that cannot be asked", "bus worker bank:build --check", **MEMORY)
commands.command("A subscription that there is not", "bus worker bank:build --only mails", **MEMORY)
commands.command(
    "A time that is none",
    "bus events republish bank:build --to balances --since yesterday",
    **MEMORY,
)
commands.command("Dead letters without saying which", "bus deadletters retry bank:build", **MEMORY)
commands.command(
    "Data twice",
    "bus deadletters edit bank:build bank.commands/7 --data '{}' --file setup.cfg",
    **MEMORY,
)
commands.command(
    "Data that is no JSON",
    "bus deadletters edit bank:build bank.commands/7 --data '{amount: 5}'",
    **MEMORY,
)
commands.command(
    "Data that is no object",
    "bus deadletters edit bank:build bank.commands/7 --data '[5]'",
    **MEMORY,
)
commands.command(
    "Contracts that cannot be read", "bus contracts check bank:build nowhere.json", **MEMORY
)
