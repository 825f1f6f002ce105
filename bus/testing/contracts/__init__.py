"""What implementations of the seams promise, as tests to inherit.

transport_contract
event_log_contract, states_contract, moving_contract, followed_log_contract
collections_contract  a place for documents; documents/ has what they promise in it
sink_contract         where projections with a sink are kept
control_contract      a service's own records
effects_contract      what event handlers write by their sessions
projection_contract   for any pair of log, collections and control
"""
