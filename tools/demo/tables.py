"""The tables for analysts, in a database of the demo's own on PostgreSQL.

Read by statements, as an analyst would.
"""

from datetime import UTC, datetime
from typing import Any

from tools.demo.errors import DemoFailed
from tools.demo.fold import PER_DAY, SPANS, Collections, Document
from tools.demo.store import ANALYSIS, Store
from tools.services import statements


class Tables(Store):
    """A database for them, and what they hold."""

    def __init__(self, server_url: str, database: str) -> None:
        self._server = server_url
        self._name = f"{database}_analysis"
        self._url = statements.of_database(server_url, self._name)

    @property
    def environment(self) -> dict[str, str]:
        return {ANALYSIS: self._url}

    def make(self) -> None:
        """Raises: DemoFailed."""
        try:
            statements.create_database(self._server, self._name)
        except statements.REFUSALS as error:
            raise DemoFailed(
                f"the database {self._name!r} for tables cannot be made: {error}; drop it if it is "
                f"of an earlier run"
            ) from None

    def drop(self) -> None:
        statements.drop_database(self._server, self._name)

    def cut(self) -> bool:
        statements.end_connections(self._url)
        return True

    def read(self) -> Collections:
        """Returns the rows that stand under the names that analysts know."""
        try:
            return {PER_DAY: self._per_day(), SPANS: self._spans()}
        except statements.REFUSALS:
            return {PER_DAY: {}, SPANS: {}}

    def _per_day(self) -> dict[str, Document]:
        rows = self._run("SELECT job_id, day, applications FROM applications_per_day")
        return {f"{job} {day}": {"applications": count} for job, day, count in rows}

    def _spans(self) -> dict[str, Document]:
        rows = self._run("SELECT job_id, title, posted, archived FROM jobs_open")
        return {
            job: _filled(title=title, posted=_in_utc(posted), archived=_in_utc(archived))
            for job, title, posted, archived in rows
        }

    def _run(self, statement: str) -> statements.Rows:
        return statements.run(self._url, statement)


def _filled(**fields: Any) -> Document:
    return {name: value for name, value in fields.items() if value is not None}


def _in_utc(time: datetime | None) -> datetime | None:
    return time.astimezone(UTC) if time else None
