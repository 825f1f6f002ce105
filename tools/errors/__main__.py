"""Writes docs/errors.md anew."""

from tools.errors.page import PAGE, provoked, split, written

if __name__ == "__main__":
    told = provoked()
    PAGE.write_text(written(told))
    shown, others = split(list(told.values()))
    print(f"{PAGE}: {len(told)} entries; {len(shown)} places on it, {len(others)} not")
