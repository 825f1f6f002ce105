"""What this process counts, for Prometheus."""

from fastapi import FastAPI, Request, Response

from bus import Bus, ConfigurationError
from bus.telemetry import metrics


def add_metrics(app: FastAPI, bus: Bus) -> None:
    """Adds `GET /metrics`, and begins to count. Without the extra `prometheus` there is neither."""
    try:
        metrics.page(bus)
    except ConfigurationError:
        return

    @app.get("/metrics", include_in_schema=False)
    async def show(request: Request) -> Response:
        content, body = metrics.page(bus, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content})
