"""What users need to test their own handlers, and the contracts that implementations pass."""
