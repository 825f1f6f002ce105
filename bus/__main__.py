"""`python -m bus`: the same as the command `bus`."""

from bus.cli import main

if __name__ == "__main__":
    main()
