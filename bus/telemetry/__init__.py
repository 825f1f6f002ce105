"""Traces and metrics of a service, made of its signals. Nothing beneath knows of this room.

OpenTelemetry and prometheus-client are known here and nowhere else, and imported only in a process
that uses them.
"""
