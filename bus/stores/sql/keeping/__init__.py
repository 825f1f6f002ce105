"""What a service without MongoDB keeps besides its log. In the order in which to read:

control       parked streams, marks of sweeps, leases, notes
letters       dead letters
documents     documents as JSON, and back as they were
nowhere       the place for documents where there is none
"""

from bus.stores.sql.keeping.control import LogNotes, SqlControl
from bus.stores.sql.keeping.nowhere import NoCollections

__all__ = ["LogNotes", "NoCollections", "SqlControl"]
