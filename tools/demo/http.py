"""One keep-alive connection to the API: as little HTTP/1.1 as the demo needs.

A full client spends more time on a request than the service does, and on a small machine the load
must leave room for what it is to show.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

ANSWER_WITHIN = 30.0


class Response(NamedTuple):
    """What the API answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def get(url: str, path: str) -> Response | None:
    """Asks for one page; None where nothing answers."""
    connection = Connection(url)
    try:
        return await connection.request("GET", path)
    except OSError:
        return None
    finally:
        connection.close()


class Connection:
    """Sends one request after the other; connects when it must."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).hostname
        self._port = urlsplit(url).port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Response:
        """Raises: OSError, where there is no answer; the request may have been carried out."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        data = b"" if body is None else json.dumps(body).encode()
        fields = {
            "Host": f"{self._host}:{self._port}",
            "Content-Length": str(len(data)),
            "Content-Type": "application/json",
            **(headers or {}),
        }
        lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await self._exchange("\r\n".join(lines).encode() + data)
        except (OSError, EOFError) as error:
            self.close()
            raise OSError(f"no answer: {error!r}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def _exchange(self, request: bytes) -> Response:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return Response(int(head[0].split()[1]), headers, body)
