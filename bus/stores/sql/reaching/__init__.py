"""How the server is reached.

server        what it is, and what its user may do
aiomysql      by that driver, and what it leaves undone
tls           by TLS, as a URL asks for it
"""

from bus.stores.sql.reaching.aiomysql import by_aiomysql
from bus.stores.sql.reaching.tls import WithTls

__all__ = ["WithTls", "by_aiomysql"]
