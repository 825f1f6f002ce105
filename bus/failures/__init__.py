"""What becomes of a message whose handler failed.

retry         tries again, in place or later; holds on while a service is away
releases      has what this release of the code cannot read wait for one that can
give_up       leaves a dead letter, and publishes an event about it
deadletters   keeps messages that were given up until a retry succeeds
allowance     so many at once, and as many more after a while
"""
