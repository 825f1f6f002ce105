"""Nobody listens: what a process has that set up no telemetry."""

from bench.telemetry.work import run

if __name__ == "__main__":
    run()
