"""A projection's collections over time: made anew from the log while readers go on.

generations   the collections that a projection has had, and which of them readers read
catalogue     which ones there are now, as one process knows it
builder       fills a new collection from the log; several workers share the work
replay        folds each stream in memory
replay_in_time  fills it as if the events arrived again
handled       which events a collection is made of
switch        moves readers to the next collection, and never back in time
pause         keeps what readers read as it is, for some seconds
audit         compares the documents with what the log makes of them
drift         what an audit found
"""
