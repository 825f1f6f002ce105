"""What moving a log in SQL takes, beside appending and reading.

fence         a trigger, by which the server itself refuses commits
copies        another log's commits, stored as they are; all commits, in the order of every log
"""

from bus.stores.sql.moving.copies import WITH_PENDING, Copies, in_order
from bus.stores.sql.moving.fence import Fence, passing

__all__ = ["WITH_PENDING", "Copies", "Fence", "in_order", "passing"]
