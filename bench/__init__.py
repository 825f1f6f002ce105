"""Benchmarks: each runs us and a peer alternately in one run, and prints medians and ratios."""
