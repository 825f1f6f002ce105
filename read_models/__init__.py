"""Read models: projections, the views they fill, and the queries that read them."""
