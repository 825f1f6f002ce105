"""What developers write at the top of a module: routers and their policies. No I/O.

router        a named list of handlers, filled by decorators
registry      which class each wire name is read as
policies      how often and how long a worker tries a handler on one message
"""
