"""From a message to its handler: which one, with what, and what becomes of its result.

dispatcher    finds the one handler of a message and runs it, in its unit of work
middleware    what runs round every handler
layers        what may be one
anew          a message as it was, for another try of its handler
dependencies  fills a handler's further parameters by type
results       what a command's handler returns, as it is kept and read again
"""
