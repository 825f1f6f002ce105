"""The stores that hold read models besides MongoDB: each where the environment names one.

Imports nothing of them: whoever has none needs none of their libraries.
"""

import os

ANALYSIS = "JOBBOARD_ANALYSIS_URL"
"""A SQL database, for tables (`analysis_tables`)."""
SEARCH = "JOBBOARD_SEARCH_URL"
"""OpenSearch or Elasticsearch, for the text of jobs (`job_search`)."""
EVENTS = "JOBBOARD_EVENTS_URL"
"""Kafka, for all events of jobs (`job_events`), of which others keep counts (`jobs_per_day`)."""


def url(variable: str) -> str:
    """Returns the URL of a store; empty if there is none."""
    return os.environ.get(variable, "")
