"""The alerts and the board name metrics that exist, and each alert leads to a page that helps."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from bus.cli.main import app
from bus.telemetry.metrics.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = (DEPLOY / "prometheus" / "alerts.yml").read_text()
CASES = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
BOARD = json.loads((DEPLOY / "grafana" / "doubledecker.json").read_text())
SEEN = (ROOT / "tests" / "fault" / "test_alerts.py").read_text()
PAGE = (ROOT / "docs" / "operating.md").read_text()

PARTS = ("**Means:**", "**Look:**", "**Do:**", "**Over when:**")
SEVERITIES = {"critical", "warning", "info"}
ENDINGS = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


class Rule(NamedTuple):
    name: str
    expression: str
    rest: str


def rules() -> list[Rule]:
    """The alerts as the file has them, by its own regular form."""
    found = re.split(r"(?m)^      - alert: ", RULES)[1:]
    return [
        Rule(one.partition("\n")[0], *one.partition("expr: |\n")[2].split("        labels:\n"))
        for one in found
    ]


def section(name: str) -> str:
    """What the page says under an alert's heading."""
    found = re.search(rf"(?ms)^### {name}\n(.*?)(?=^##)", PAGE)
    assert found, f"docs/operating.md has no heading `### {name}`"
    return found[1]


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression of the board, with its panel's title."""
    for panel in BOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bbus_\w+", re.sub(r'"[^"]*"', "", expression)))


def grouped_by(expression: str) -> list[str]:
    found = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    return [label for labels in found for label in labels.split(", ")]


EXPOSED = {
    metric.exposed + ending: metric for metric in CATALOGUE for ending in ENDINGS[metric.kind]
}
ALERTS = rules()
ids = [rule.name for rule in ALERTS]


def test_the_file_has_the_alerts() -> None:
    assert len(ALERTS) == 19 == len(set(ids))
    assert RULES.count("alert:") == len(ALERTS)


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_an_alert_goes_by_metrics_that_there_are(rule: Rule) -> None:
    names = names_in(rule.expression)
    assert names or "up{" in rule.expression
    assert names <= {*EXPOSED}


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_an_alert_goes_by_labels_that_its_metrics_have(rule: Rule) -> None:
    # `instance` and `job` are Prometheus' own, `le` that of a histogram.
    always = {"service", "instance", "job", "le"}
    known = always.union(*(EXPOSED[name].labels for name in names_in(rule.expression)))
    chosen = grouped_by(rule.expression) + re.findall(r"(\w+)=~?\"", rule.expression)
    told = re.findall(r"\$labels\.(\w+)", rule.rest)
    assert {*chosen, *told} <= known
    assert {*told} <= {*chosen}, "what an alert tells is lost by its own `by`"


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_an_alert_says_how_bad_it_is_and_where_to_read(rule: Rule) -> None:
    (severity,) = re.findall(r"severity: (\w+)", rule.rest)
    assert severity in SEVERITIES
    assert "summary: " in rule.rest
    assert "description: " in rule.rest
    (place,) = re.findall(r"runbook_url: (\S+)", rule.rest)
    assert place == f"docs/operating.md#{rule.name.lower()}"


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_the_page_says_what_an_alert_means_what_to_do_and_when_it_is_over(rule: Rule) -> None:
    text = section(rule.name)
    paragraphs = [one for one in text.strip().split("\n\n") if one]
    assert [one.partition(" ")[0] for one in paragraphs if not one.startswith("**Over")] == [
        part for part in PARTS if part != "**Over when:**"
    ]
    assert paragraphs[-1].startswith("**Over when:**")


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_the_page_names_commands_that_there_are(rule: Rule) -> None:
    commands = re.findall(r"`bus ([^`]+)`", section(rule.name))
    assert commands, "it does not say what to look with"
    for command in commands:
        assert problem_of(command.split()) == "", command


@pytest.mark.parametrize("rule", ALERTS, ids=ids)
def test_an_alert_has_a_case_in_which_it_fires_and_was_seen_to(rule: Rule) -> None:
    assert f'alertname="{rule.name}"' in CASES
    for what in ("fire", "end"):
        assert re.search(rf'await {what}\(prometheus[^)]*"{rule.name}"', SEEN)


def test_the_page_has_no_alert_besides() -> None:
    assert re.findall(r"(?m)^### (Bus\w+)$", PAGE) == ids


def test_the_board_goes_by_metrics_that_there_are() -> None:
    wrong = {title: names_in(one) - {*EXPOSED} for title, one in expressions()}
    assert {title: names for title, names in wrong.items() if names} == {}
    assert all(names_in(one) for _, one in expressions())


def test_the_board_goes_by_labels_that_its_metrics_have() -> None:
    wrong = []
    for title, one in expressions():
        known = {"service", "instance", "le"}
        known = known.union(*(EXPOSED[name].labels for name in names_in(one)))
        chosen = [
            label for found in re.findall(r"\bby \(([^)]*)\)", one) for label in found.split(", ")
        ]
        wrong += [(title, label) for label in chosen if label not in known]
    assert wrong == []


def test_a_command_that_is_none_is_told() -> None:
    assert problem_of(["projections", "audit", "APP", "NAME", "--all"]) == ""
    assert problem_of(["projections", "mend", "APP"]) == "no command mend"
    assert problem_of(["projections", "audit", "APP", "--everything"]) == "no option --everything"
    assert problem_of(["deadletters", "show", "APP"]) == "2 arguments at least, not 1"
    assert problem_of(["relay", "APP", "NAME"]) == "1 arguments at most, not 2"


def problem_of(words: list[str]) -> str:
    """What is wrong with a command, by those that there are; "" if nothing is."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    options = {
        name: parameter
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if parameter.param_type_name == "option"
    }
    given, rest = [], iter(words)
    for word in rest:
        if not word.startswith("-"):
            given.append(word)
        elif word not in options:
            return f"no option {word}"
        elif not options[word].is_flag:
            next(rest, None)
    return _count(command, len(given))


def _count(command: Any, given: int) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    least = sum(one.required for one in arguments)
    if given < least:
        return f"{least} arguments at least, not {given}"
    if given > len(arguments) and all(one.nargs == 1 for one in arguments):
        return f"{len(arguments)} arguments at most, not {given}"
    return ""
