"""The page of errors, docs/errors.md: made of errors that a few lines of code provoke here.

To add an entry, write a function into one of the modules of entries: what it does ends in the
error, its name is the title, its body is what the page shows. Then run `bin/errors`.
"""
