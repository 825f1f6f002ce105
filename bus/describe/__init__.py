"""What a service's messages look like, for others.

contracts     the description of a service's messages
comparing     whether a change of the description breaks anybody
schemas       whether one JSON Schema allows all that another allows
"""
