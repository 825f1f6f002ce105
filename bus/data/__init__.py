"""What can be written and is read back as it was: the rules, checked before anything is stored.

fields        which types a message's fields may have
flat          models of scalars alone, which need no conversion
classes       what else a message's class may be
ids           ids that derive from others, and of streams
payload       what a message's data may be beyond what its model says
limits        limits of ids and headers, each in the unit that counts
round_trip    whether what was read back is the value that was written
unwritten     what cannot be written or read: why, where, and what to do
"""
