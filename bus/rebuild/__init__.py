"""A projection's collections over time: rebuilt from the log while readers go on.

generations   the collections that a projection has had, and which one readers read
catalogue     which ones exist now, as one process knows it
builder       fills a new collection from the log; several workers share the work
replay        fills a collection by folding each stream in memory
replay_in_time  fills one as if the events arrived again
handled       which events a collection is made of
switch        moves readers to the next collection, and never back in time
pause         keeps what readers read unchanged for some seconds
audit         compares the documents with what the log makes of them
fed           which documents certain streams feed
drift         what an audit has found
"""
