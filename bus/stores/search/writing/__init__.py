"""Batches written exactly once into an index, which has no transactions. Knows no engine.

by_document  where each document is fed by one stream
by_stream    where several streams feed a document
records      how an index holds documents, and the versions they have reached
values       what handlers return, as JSON
"""
