"""Projections kept in another technology than the service's documents: what all of these share.

    returned  what handlers of a projection with a sink may return and take
    placed    the place of one sink, as a place for collections
    sent      sinks that take the events themselves: a topic
    divided   the service's documents and the places of its sinks, as one
    memory    a sink in memory: the contract without a server

The technologies have rooms of their own: `stores/sql/tables`, `stores/search`.
"""
