"""Servers in Java, had as jars: what Maven fetches of them, and nodes that run it.

In reading order: `fetching` (the jars, by a `pom.xml` for each server), `jar_node` (what the nodes
have in common), `kafka`, `search` (OpenSearch and Elasticsearch, started by `SearchServer.java`).
"""
