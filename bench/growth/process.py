"""What the kernel says of a process."""

from pathlib import Path


def peak_mb(pid: int) -> float:
    """The most memory that it has ever held."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
