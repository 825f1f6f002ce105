"""The write deck: aggregates decide, a unit of work stores, publisher and relay publish."""
