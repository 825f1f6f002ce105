"""What a service's messages look like, for others.

contracts     their descriptions
comparing     whether a change of these breaks anybody
schemas       whether all that one JSON Schema allows is allowed by another
"""
