"""From a message to its handler: which one, with what, and what happens to its result.

dispatcher    finds the one handler of a message and runs it, in its unit of work
transactions  runs a handler with a session, whose writes are stored with its commits
joining       a unit of work within a transaction of the application's own
measuring     counts the runs of each handler, and watches those that somebody wants to hear of
middleware    what runs around every handler
layers        checks that what is given as middleware can be
anew          a message as it was, for another try of its handler
lending       lends queries what they read the collections of sinks with
dependencies  fills a handler's further parameters by type
results       stores and reads what a command's handler returns
"""
