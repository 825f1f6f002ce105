"""What implementations of the seams promise, as tests to inherit.

transport_contract
event_log_contract, followed_log_contract
collections_contract, documents_contract, values_contract, updates_contract   a place for documents
control_contract      a service's own records
read_store_contract   all of these, and the optional capabilities of a place for documents
projection_contract, views_contract   for any pair of log and read store
"""
