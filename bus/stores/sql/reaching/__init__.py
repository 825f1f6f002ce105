"""How the server is reached.

tls           by TLS, as a URL asks for it
"""

from bus.stores.sql.reaching.tls import WithTls

__all__ = ["WithTls"]
