"""Every way to write messages, aggregates, handlers and projections: a shop that takes orders."""
