"""What ends a demo before its report."""


class DemoFailed(Exception):
    """The demo cannot go on; the message says why, and where to look."""
