"""The soak: the job board under load while things break, and a ledger that tells what was lost."""
