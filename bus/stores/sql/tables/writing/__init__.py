"""Writes batches into a table.

batch      one batch: versions and rows in one transaction
merging    many rows that are added or changed, by few statements
advancing  versions, compared and moved
folding    what a batch makes of rows
upserting  what it makes of rows that need not be read
loading    rows that whole streams make, while a table is built
"""
