"""Write models: aggregates, their commands and their events. Pure; no I/O."""
