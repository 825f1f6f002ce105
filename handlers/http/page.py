"""The page at /docs: the OpenAPI description as plain HTML that loads nothing from elsewhere."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from handlers.http.problems import INVALID, PROBLEMS

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #8882; border-radius: 4px }
code { padding: .1em .3em } pre { padding: .8em; overflow: auto } dt { margin-top: .5em }
:root { color-scheme: light dark }
"""


def add_page(app: FastAPI) -> None:
    """Serves the description of the app at /docs; as JSON it is at /openapi.json."""

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def docs() -> str:
        return "\n".join(_page(app.openapi()))


def _page(api: dict[str, Any]) -> Iterator[str]:
    title = escape(api["info"]["title"])
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    yield f"<style>{STYLE}</style><h1>{title}</h1><p>{escape(api['info']['description'])}"
    yield "<p>Also as <a href='/openapi.json'>OpenAPI</a>; <a href='/'>the board itself</a>."
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield from _operation(f"{method.upper()} {path}", operation)
    yield "<h2>Shapes</h2>"
    for name, schema in api["components"]["schemas"].items():
        yield f"<h3 id='{escape(name)}'>{escape(name)}</h3>{_json(schema)}"
    yield "<h2>Problems</h2><dl>"
    for problem in sorted({*PROBLEMS.values(), INVALID}):
        yield f"<dt id={problem.name}><code>{problem.status}</code> {problem.name}"
        yield f"<dd>{escape(problem.title)}"
    yield "</dl></html>"


def _operation(title: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(title)}</code></h2><p>{escape(operation.get('description', ''))}<ul>"
    for parameter in operation.get("parameters", ()):
        need = "required" if parameter["required"] else "optional"
        yield f"<li><code>{escape(parameter['name'])}</code> in the {parameter['in']}, {need}"
    yield "</ul>"
    if body := operation.get("requestBody"):
        yield f"<p>Body: {_shape(body)}"
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            yield f"<p>Answers <code>{status}</code>: {_shape(answer)}"


def _shape(described: dict[str, Any]) -> str:
    """Formats the schema of a body as links to the shapes that it names."""
    ((kind, content),) = described["content"].items()
    schema = content["schema"]
    names = [choice["$ref"].rpartition("/")[2] for choice in schema.get("anyOf", [schema])]
    shapes = " or ".join(f"<a href='#{escape(name)}'>{escape(name)}</a>" for name in names)
    return shapes if kind == "application/json" else f"{shapes} as <code>{escape(kind)}</code>"


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2))}</pre>"
