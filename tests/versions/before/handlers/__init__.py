"""Handlers: where commands, events and requests from outside meet the models."""
