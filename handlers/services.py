"""The names of the services, which are also those of their queues and databases."""

import os


def jobs() -> str:
    """Returns the name of the separate jobs service: "jobs", or the value of JOBS_SERVICE."""
    return os.environ.get("JOBS_SERVICE") or "jobs"


def applications() -> str:
    """Returns that of applications: "applications", or the value of APPLICATIONS_SERVICE."""
    return os.environ.get("APPLICATIONS_SERVICE") or "applications"


def statistics() -> str:
    """Returns that of the statistics: "statistics", or the value of STATISTICS_SERVICE."""
    return os.environ.get("STATISTICS_SERVICE") or "statistics"


def job_board() -> str:
    """Returns that of both in one: "jobboard", or the value of JOBBOARD_SERVICE."""
    return os.environ.get("JOBBOARD_SERVICE") or "jobboard"
