"""What the services are called: their names are those of their queues and databases."""

import os


def jobs() -> str:
    """The service of jobs, where it runs by itself: "jobs", or what JOBS_SERVICE says."""
    return os.environ.get("JOBS_SERVICE") or "jobs"


def applications() -> str:
    """That of applications: "applications", or what APPLICATIONS_SERVICE says."""
    return os.environ.get("APPLICATIONS_SERVICE") or "applications"


def job_board() -> str:
    """Both in one: "jobboard", or what JOBBOARD_SERVICE says, so that several share a broker."""
    return os.environ.get("JOBBOARD_SERVICE") or "jobboard"
