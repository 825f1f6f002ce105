"""Stores: the event log and the read collections. The MongoDB driver stays in here."""
