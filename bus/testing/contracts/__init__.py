"""What implementations of the seams promise, as tests to be inherited.

transport_contract
event_log_contract, followed_log_contract
read_store_contract, values_contract, updates_contract
projection_contract, views_contract   on any pair of log and read store
"""
