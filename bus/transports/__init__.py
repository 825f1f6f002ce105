"""Transports: how frames travel. The technology of a broker stays in its own module."""
