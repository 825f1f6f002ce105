"""The read deck: projections fold events into read collections; queries read those.

projection    the declaration of a read collection, and how each event changes it
views         what documents are read as
documents     typed access to one projection's read collection
fold          what a batch of events changes, given the versions that its streams have reached
projector     keeps one projection's documents equal to the fold of the log
parking       describes the streams that a projection has set aside
sweeper       applies from the log what no delivery brought
freshness     waits until projections include what a receipt refers to
live          asks a query again whenever what it reads has changed
lag           how far the documents are behind the log
foreign       how much of other services' streams has arrived
"""
