"""The documentation site: the Markdown of this repository as it lies here, and the reference.

pages         what the site is made of: copies, by one link for the repository and the site
__main__      builds it with zensical, which fails at a dead link; serves it
links         what zensical does not look at: files that are no pages, and other hosts
records       a part of mkdocstrings, which makes the reference
"""
