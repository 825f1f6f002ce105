"""Projections in an index of OpenSearch or Elasticsearch. In the order in which to read:

sink      what is declared
place     the place of one projection's indices
writing   batches, exactly once, without transactions (a folder)
index     reading and storing in one index
memory    what was stored last
engine    requests, and what they are sent to
failures  what an engine's answer means
declared  mapping and settings
aliases   names by which readers find an index
examining what an engine is, and how its cluster is
audits    documents as audits read and correct them
"""

from bus.errors import ConfigurationError

try:
    import opensearchpy  # noqa: F401
except ModuleNotFoundError:
    raise ConfigurationError(
        "SearchIndex needs opensearch-py, which is not installed: pip install "
        "'doubledecker[search]'"
    ) from None

from bus.stores.search.sink import ActiveIndex, SearchIndex

__all__ = ["ActiveIndex", "SearchIndex"]
