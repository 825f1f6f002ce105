"""What arrives together is done together: group commit and shared reads, for every database.

groups        carries out, as one group, what arrived while the last one was under way
appender      commits that share one insert; each gets its own outcome
shared_reads  reads of streams that share one query
loader        aggregates' events, in pages
"""
