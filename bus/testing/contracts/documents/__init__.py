"""What documents promise, as tests to inherit.

documents_contract    reads and writes of a place for documents
values_contract       Python's values in them
updates_contract      what updates do
views_contract        views of documents, and what a query selects
"""
