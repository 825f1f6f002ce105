"""What docs/stores.md says for Alembic leaves the bus's tables alone."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from bus.stores.sql import SqlEventLog, connect
from tests.project.test_docs import write_files


async def test_autogenerate_sees_the_services_own_tables_alone(
    postgresql_url: str, tmp_path: Path
) -> None:
    write_files("stores.md", tmp_path)
    names: dict[str, object] = {}
    exec((tmp_path / "migrations" / "leave_bus_alone.py").read_text(), names)
    include_name = names["include_name"]
    assert callable(include_name)
    engine = connect(postgresql_url)
    await SqlEventLog(engine).open()
    await engine.dispose()
    own = create_async_engine(postgresql_url)
    async with own.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE orders (id int)"))
        await connection.execute(sa.text("CREATE TABLE jobs_table__v1r2 (id int)"))
        found = await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    await own.dispose()
    assert [name for name in found if include_name(name, "table", {})] == ["orders"]
    assert include_name("bus_orders_index", "index", {})
