"""Metrics of a service, made of its signals.

In reading order: `catalogue` names them all, `tally` counts what the signals say.
"""
