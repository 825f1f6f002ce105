"""The demo: the job board under load, a worker killed, and every document compared with the log."""
