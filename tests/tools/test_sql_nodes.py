"""Real SQL servers of a test's own: they crash, come back, freeze, and leave nothing running."""

from tools.services import statements


def test_each_test_has_an_empty_database_of_its_own(sql_url: str) -> None:
    statements.run(sql_url, "CREATE TABLE things (id INT)", "INSERT INTO things VALUES (1)")
    assert statements.run(sql_url, "SELECT id FROM things") == [(1,)]
