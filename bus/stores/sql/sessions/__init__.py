"""A service's own rows, in one transaction with the log. In the order in which to read:

effects       runs handlers that take an AsyncSession
attempts      a transaction, again after a conflict, until its outcome is known
lent          the session that a handler is lent, which it cannot end
joining       commits in a transaction of the application's own
marks         the table of events that are handled
"""

from bus.stores.sql.sessions.effects import SqlEffects
from bus.stores.sql.sessions.joining import Joining

__all__ = ["Joining", "SqlEffects"]
