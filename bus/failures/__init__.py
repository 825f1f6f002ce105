"""What becomes of a message whose handler failed.

retry         again in place, later, or held while a service is away
releases      what this release of the code cannot read waits for one that can
give_up       leaves a dead letter, and an event that tells of it
deadletters   messages given up, kept until a retry of them succeeds
allowance     what may be had so often, and again after a while
"""
