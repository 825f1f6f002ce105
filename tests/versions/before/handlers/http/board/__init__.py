"""The page at /: the job board for people, as plain files, with nothing from elsewhere in it."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

FILES = {"/": "board.html", "/board.css": "board.css", "/board.js": "board.js"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def add_board(app: FastAPI) -> None:
    """Serves the page and its files, under a policy that lets the browser load nothing else."""
    for path, name in FILES.items():
        _serve(app, path, Path(__file__).with_name(name))


def _serve(app: FastAPI, path: str, file: Path) -> None:
    @app.get(path, include_in_schema=False)
    async def serve() -> FileResponse:
        return FileResponse(file, headers=HEADERS)
