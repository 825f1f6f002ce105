"""What people inspect and repair: the model behind the command line.

projections      read collections: their state; rebuild, roll back, audit
deadletters      lists and repairs what was given up
deadletter_view  how that is shown, together with parked streams
events           the log, shown as it is stored
aggregates       states of aggregates that are stored by their state
log_copy         moves a service's log to another database, while commands come in
log_place        where it can be
log_states       copies the states beside it
log_pairs        two logs side by side
topology         what a service needs at RabbitMQ against what is there
conversation     commands and events, each beneath the one that caused it
"""
