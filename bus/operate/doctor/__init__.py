"""What a service stands on, and which of its promises hold there: the model behind `bus doctor`.

doctor       all that is examined, part by part
patient      opens the parts, one by one, and asks each
broker       RabbitMQ: reached, alarms, rights, nodes
topology     what is declared against what is there: the plan, as findings
database     the place of the service's own records, and the event log
contents     whose it is, and whether it goes on from what it held
work         what waits: commits, events, parked streams, dead letters
stores       tables, indices, topics of sinks; feeds
surroundings libraries, settings, telemetry
"""
