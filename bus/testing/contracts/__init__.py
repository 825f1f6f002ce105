"""What implementations of the seams promise, as tests to be inherited.

transport_contract
event_log_contract, followed_log_contract
collections_contract, documents_contract, values_contract, updates_contract   a place for documents
control_contract      a service's own records
read_store_contract   all of these, and what a place for documents can do besides
projection_contract, views_contract   on any pair of log and read store
"""
