"""One service sends another its history.

protocol      what travels between the two
sender        sends it, from its own log, to the queue of the service that asked
receiver      stores what arrives, and notes how far that reaches
monitor       asks for what is missing here
feeding       takes other services' events from a feed instead, as from a topic of Kafka's
duties        all of this, as duties of a worker
"""
