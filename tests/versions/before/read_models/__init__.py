"""Read models: projections, the views they keep, and the queries that read them."""
