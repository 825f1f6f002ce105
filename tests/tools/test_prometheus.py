"""Prometheus for tests: it comes from a package that is not installed, and runs the rules that are
made for production, faster. What we give people for it is right."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import lent, nothing_runs_in, processes_of
from tools.services import CommandFailed, PrometheusNode, ServiceUnavailable, prometheus
from tools.services.packages import NO_INSTALL, unpacked
from tools.services.ports import free_ports, wait_until
from tools.services.prometheus import Alert, faster, programs, promtool

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
BOARD = json.loads((DEPLOY / "grafana" / "doubledecker.json").read_text())

RULES = """\
groups:
  - name: two
    rules:
      - alert: Gone
        expr: |
          up{job="bus"} == 0
        for: 2m
        labels:
          severity: critical
      - alert: Late
        expr: |
          time() - max_over_time(up[5m])
            > 60  # seconds
"""


@pytest.fixture(scope="module")
def node(
    prometheus_kind: type[PrometheusNode], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrometheusNode]:
    """A Prometheus with a rule that fires once nothing listens at a target, after two seconds."""
    folder = tmp_path_factory.mktemp("prometheus")
    rules = folder / "alerts.yml"
    rules.write_text(RULES)
    config = PROMETHEUS / "prometheus.yml"
    with lent(prometheus_kind(folder / "node", config=config, rules=rules, speed=60)) as node:
        yield node


def test_times_are_divided_and_nothing_else() -> None:
    hurried = faster(RULES, by=60)
    assert [
        (was, now)
        for was, now in zip(RULES.splitlines(), hurried.splitlines(), strict=True)
        if was != now
    ] == [
        ("        for: 2m", "        for: 2000ms"),
        (
            "          time() - max_over_time(up[5m])",
            "          time() - max_over_time(up[5000ms])",
        ),
        ("            > 60  # seconds", "            > 1  # seconds"),
    ]
    assert faster(RULES, by=1) == RULES


def test_it_scrapes_once_a_second_at_most() -> None:
    text = "scrape_interval: 15s\nscrape_timeout: 10s\nevaluation_interval: 5m\n"
    hurried = "scrape_interval: 1000ms\nscrape_timeout: 1000ms\nevaluation_interval: 5000ms\n"
    assert faster(text, by=60) == hurried


def test_every_time_of_the_alerts_is_divided() -> None:
    rules = (PROMETHEUS / "alerts.yml").read_text()
    count = len(re.findall(r"for: \d|\[\d+\w\]|# seconds$", rules, re.MULTILINE))
    changed = zip(rules.splitlines(), faster(rules, by=60).splitlines(), strict=True)
    assert count > 30
    assert sum(was != now for was, now in changed) == count


def test_an_alert_fires_while_a_target_does_not_answer(node: PrometheusNode) -> None:
    def states() -> list[tuple[str, str]]:
        return [(one.name, one.state) for one in node.alerts() if one.name == "Gone"]

    node.scrape(free_ports(1))
    assert wait_until(lambda: ("Gone", "firing") in states(), seconds=60)
    node.scrape([node.port])
    assert wait_until(lambda: states() == [], seconds=60)


def test_what_an_alert_tells(node: PrometheusNode) -> None:
    (port,) = free_ports(1)
    node.scrape([port])
    labels = {"instance": f"127.0.0.1:{port}", "job": "bus", "severity": "critical"}
    assert wait_until(lambda: Alert("Gone", "firing", labels) in node.alerts(), seconds=60)


def test_an_expression_is_answered_or_refused(node: PrometheusNode) -> None:
    assert [(one.labels, one.value) for one in node.query("vector(2) * 3")] == [({}, 6.0)]
    assert node.query("1 + 1")[0].value == 2.0
    with pytest.raises(CommandFailed, match="parse error"):
        node.query("sum by (")


def test_it_ends_with_all_that_belongs_to_it(
    prometheus_kind: type[PrometheusNode], tmp_path: Path
) -> None:
    with lent(prometheus_kind(tmp_path / "node")) as node:
        assert processes_of(node.folder)
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", node.version)
    assert nothing_runs_in(tmp_path)
    assert not node.folder.exists()


# --- where it comes from -------------------------------------------------------------------------


def test_programs_on_the_path_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("prometheus", "promtool"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs() == (tmp_path / "prometheus", tmp_path / "promtool")


@pytest.mark.parametrize("packages", [["prometheus"], ["prometheus", "promtool"]])
def test_programs_come_from_one_package_or_from_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, packages: list[str]
) -> None:
    there: dict[str, list[str]] = {package: [] for package in packages}
    there["prometheus"].append("prometheus")
    there[packages[-1]].append("promtool")

    def folder_of(package: str, *, otherwise: str) -> Path:
        for name in there[package]:
            file = tmp_path / package / "usr" / "bin" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path / package

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(prometheus, "unpacked", folder_of)
    server, tool = programs()
    assert server == tmp_path / "prometheus" / "usr" / "bin" / "prometheus"
    assert tool == tmp_path / packages[-1] / "usr" / "bin" / "promtool"


def test_without_a_package_manager_it_is_said_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ServiceUnavailable, match=r"no apt-get: put prometheus and promtool on the"):
        programs()


def test_a_package_that_cannot_be_had_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(NO_INSTALL, "1")
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'no such package' >&2; exit 100\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ServiceUnavailable, match=r"nonesuch is missing .* do without it"):
        unpacked("nonesuch", otherwise="do without it")
    with pytest.raises(ServiceUnavailable):  # what was begun is not taken for it
        unpacked("nonesuch", otherwise="do without it")


# --- what we give people for it ------------------------------------------------------------------


def test_promtool_finds_nothing_wrong(prometheus_kind: type[PrometheusNode]) -> None:
    assert "19 rules found" in promtool("check", "rules", "alerts.yml", folder=PROMETHEUS)
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", folder=PROMETHEUS)
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml", folder=PROMETHEUS)


def test_promtool_finds_what_is_wrong(
    prometheus_kind: type[PrometheusNode], tmp_path: Path
) -> None:
    for file in PROMETHEUS.iterdir():
        (tmp_path / file.name).write_text(file.read_text().replace("> 0.05", "> 0.5"))
    with pytest.raises(CommandFailed, match="BusCommandsFail"):
        promtool("test", "rules", "alerts_test.yml", folder=tmp_path)


def test_the_alerts_with_their_times_divided_are_rules_too(
    prometheus_kind: type[PrometheusNode], tmp_path: Path
) -> None:
    (tmp_path / "alerts.yml").write_text(faster((PROMETHEUS / "alerts.yml").read_text(), by=60))
    assert "19 rules found" in promtool("check", "rules", "alerts.yml", folder=tmp_path)


def test_prometheus_understands_each_expression_of_the_board(node: PrometheusNode) -> None:
    asked = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])]
    for expression in asked:
        node.query(expression.replace("$service", ".*").replace("$__rate_interval", "1m"))
    assert len(asked) > 50
