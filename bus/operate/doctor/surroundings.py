"""What surrounds a service: the libraries it runs with, its settings, its telemetry."""

import os
import platform
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any

from bus.assembly.runtime import Runtime
from bus.common.urls import open_places
from bus.observe.health import Finding, fault, fine, warning
from bus.operate.doctor.patient import Patient
from bus.settings import MEMORY, Settings
from bus.telemetry.switch import providers
from bus.version import __version__

DISTRIBUTION = "doubledecker"
ALWAYS_NAMED = ("aio-pika", "aiormq", "pymongo", "pydantic")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)")
_BOUND = re.compile(r"(<=|>=|==|!=|~=|<|>)\s*([0-9][0-9.]*)")


# --- libraries -----------------------------------------------------------------------------------


async def libraries(patient: Patient) -> list[Finding]:
    """Returns which libraries are not of the versions that this release asks for."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return [fine(f"not compared: {DISTRIBUTION} runs without being installed")]
    return [fine(_versions()), *unmet(required)]


def _versions() -> str:
    named = ", ".join(f"{name} {found}" for name in ALWAYS_NAMED if (found := installed(name)))
    return f"bus {__version__} on Python {platform.python_version()}, {named}"


def installed(name: str) -> str:
    """Returns the version of a library; empty if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def unmet(required: Iterable[str]) -> Iterator[Finding]:
    """Yields the libraries that are installed in another version than is required, and those that
    are missing. What belongs to an extra may be missing."""
    for requirement in dict.fromkeys(required):
        found = _REQUIREMENT.match(requirement)
        if found is None or ("extra ==" in requirement and not _is_ours(requirement)):
            continue
        name, bounds = found[1], found[2].strip()
        version = installed(name)
        if version and not all(_holds(version, *bound) for bound in _BOUND.findall(bounds)):
            remedy = f"pip install '{name}{bounds}'"
            yield fault(f"{name} is {version}, and this release needs {bounds}", remedy)
        elif not version and "extra ==" not in requirement:
            yield fault(f"{name} is not installed", f"pip install '{name}{bounds}'")


def _is_ours(requirement: str) -> bool:
    """Returns whether an extra is for running a service, and not for working on the bus."""
    return not re.search(r"extra == [\"'](dev|docs|testing)[\"']", requirement)


def _holds(version: str, relation: str, bound: str) -> bool:
    length = max(version.count("."), bound.count(".")) + 1
    here, there = _numbers(version, length), _numbers(bound, length)
    return {
        "<": here < there,
        "<=": here <= there,
        ">": here > there,
        ">=": here >= there,
        "==": here == there,
        "!=": here != there,
    }.get(relation, True)


def _numbers(version: str, length: int) -> list[int]:
    found = [int(number) for number in re.findall(r"\d+", version)[:length]]
    return found + [0] * (length - len(found))


# --- settings ------------------------------------------------------------------------------------


async def settings(patient: Patient) -> list[Finding]:
    """Returns which settings give something away."""
    own = patient.runtime.settings
    return [*_in_memory(patient.runtime), *_unencrypted(own), *_stated(own)]


def _in_memory(runtime: Runtime) -> Iterator[Finding]:
    kept = [name for name in ("amqp_url", "mongo_url") if getattr(runtime.settings, name) == MEMORY]
    for name in kept if runtime.has_default_backend else ():
        variable = f"BUS_{name.upper()}"
        yield warning(f"{variable} is {MEMORY}: what is there ends with its process",
                      f"set {variable} to the URL of a server", "G1")  # fmt: skip


def _unencrypted(own: Settings) -> Iterator[Finding]:
    urls = {
        "BUS_AMQP_URL": own.amqp_urls,
        "BUS_MONGO_URL": (own.mongo_url,),
        "BUS_LOG_URL": (own.log_url,),
        "BUS_MANAGEMENT_URL": (own.management_url,),
    }
    for variable, several in urls.items():
        if away := [place for url in several if url != MEMORY for place in open_places(url)]:
            yield warning(
                f"{variable} goes to {', '.join(away)} without TLS: passwords and messages can be "
                f"read on the way",
                "use amqps://, tls=true or https:// (docs/security.md)",
            )


def _stated(own: Settings) -> Iterator[Finding]:
    declares = "queues are declared by its processes" if own.declare == "always" else (
        "queues are declared by `bus topology apply` alone"
    )  # fmt: skip
    yield fine(f"BUS_DECLARE={own.declare}: {declares}")
    port = f"port {own.health_port}" if own.health_port else "off (BUS_HEALTH_PORT)"
    yield fine(f"health of workers by HTTP: {port}")


# --- telemetry -----------------------------------------------------------------------------------


async def telemetry(patient: Patient) -> list[Finding]:
    """Returns whether traces and metrics leave this process, or others that are set up like it."""
    runtime = patient.runtime
    found = providers(runtime)
    if found.is_off:
        return [fine(f"{_why_off(runtime.settings)}: no traces, no metrics")]
    return [*_traces(runtime.settings, found.tracer), _metrics(runtime.settings, found.meter)]


def _why_off(own: Settings) -> str:
    if own.telemetry == "never":
        return "BUS_TELEMETRY=never"
    return "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names it"


def _traces(own: Settings, provider: Any) -> Iterator[Finding]:
    asked_for = sorted(name for name in os.environ if name.startswith("OTEL_EXPORTER_"))
    if provider is not None:
        yield _sampled_twice(own, provider) or fine(
            f"OpenTelemetry is set up here; BUS_TRACE_SHARE={own.trace_share:g}"
        )
    elif asked_for and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true":
        what = f"{asked_for[0]} is set, and nothing exports in this process"
        missing = "" if installed("opentelemetry-sdk") else "install opentelemetry-distro, and "
        remedy = f"{missing}start processes by `opentelemetry-instrument bus worker APP`"
        yield warning(what, remedy)
    else:
        yield fine("OpenTelemetry is not set up in this process: no traces")


def _sampled_twice(own: Settings, provider: Any) -> Finding | None:
    """Returns whether both we and OpenTelemetry leave traces out."""
    sampler = getattr(provider, "sampler", None)
    described = sampler.get_description() if sampler else ""
    if own.trace_share >= 1 or "TraceIdRatioBased" not in described:
        return None
    return warning(
        f"BUS_TRACE_SHARE={own.trace_share:g} and OpenTelemetry's own sampler ({described}) both "
        f"leave traces out: what is left is the product of their shares",
        "set one of them to 1 (OTEL_TRACES_SAMPLER=parentbased_always_on)",
    )


def _metrics(own: Settings, provider: Any) -> Finding:
    if provider is not None:
        return fine("metrics go to OpenTelemetry's meter")
    if not own.health_port:
        return fine("metrics: none (BUS_HEALTH_PORT, or OpenTelemetry's meter)")
    if not installed("prometheus-client"):
        return warning(
            "workers have a health port, and no metrics at it: prometheus-client is missing",
            "pip install 'doubledecker[prometheus]'",
        )
    return fine(f"metrics for Prometheus: /metrics at port {own.health_port} of workers and relays")
