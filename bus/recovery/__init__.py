"""What was lost is brought back from the log.

republishing  what was published, sent once more to the queues of one subscription
losses        queues that were lost with what they held are filled again
recovery      puts right a database that does not go on from what it held
"""
