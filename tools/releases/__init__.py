"""Runs a command of this checkout on another release of Debian, in a root folder of its own.

    python -m tools.releases bin/test debian13 tests/unit

The root is made once by debootstrap, from the machine's own package sources, and kept. What runs
in it has mounts and processes of its own, which end with it, whatever it leaves behind. It shares
the machine's network. Needs root.
"""
