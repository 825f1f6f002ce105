"""What can be written and is read back as it was: the rules, told before anything is stored.

fields        what may be declared of a message
flat          of scalars alone, so that nothing need be converted
classes       what its class may be beside these
ids           that follow from others, and of streams
payload       what a message's data may be beyond what its model says
limits        of ids and headers, each in the unit that counts
round_trip    whether what was read back of a value is the value that was written
unwritten     what cannot be written or read: why, where, and what to do
"""
