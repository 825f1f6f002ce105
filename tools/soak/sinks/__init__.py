"""What the soak keeps in other technologies (`bin/soak --sinks`): one thing in every store.

Jobs, of which each row is fed by one stream; amounts of money, of which many streams feed each row;
and all events in a topic, from which another service is fed.
"""
