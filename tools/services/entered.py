"""What runs while it is entered."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Entered(ABC):
    """Started as a whole or not at all, and ended when it is left."""

    @abstractmethod
    def start(self) -> None:
        """Start it. What it raises leaves nothing behind."""

    @abstractmethod
    def end(self) -> None:
        """End it, also where it was started in part."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
