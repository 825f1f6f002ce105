"""What a service's messages look like, for others.

contracts     their descriptions, and whether a change breaks anybody
schemas       whether all that one JSON Schema allows is allowed by another
"""
