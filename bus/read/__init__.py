"""The read deck: projections fold events into read collections; queries read those."""
