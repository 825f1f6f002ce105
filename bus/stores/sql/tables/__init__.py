"""Projections kept in tables: `Projection(..., sink=SqlTable(table, url=...))`.

declared   what is declared, and what handlers may return
columns    the values that columns take
place      one sink's tables while a bus is open
making     makes and drops them, and knows which are there
copies     a declared table as one generation has it, and what differs from it
writing/   one batch: versions and rows in one transaction
keys       rows found by their keys
views      the projection's name as a view
auditing   whole rows, for an audit
refusals   what an error of a database means for a batch
"""

from bus.stores.sql.tables.declared import SqlTable

__all__ = ["SqlTable"]
