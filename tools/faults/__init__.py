"""Ways to break things: a proxy for the wire, clusters whose nodes die, a network to part, a disk
to fill, and what an SQL server is told.

    async with Proxy(node.url) as proxy:
        ...  # proxy.url leads to the node
        proxy.cut()

Knows nothing of the bus. Whatever is started here ends with the block, and nothing else is touched.
"""

from tools.faults.mongo_set import MongoSet, failing
from tools.faults.netns import Namespace
from tools.faults.proxy import Proxy, Towards
from tools.faults.rabbit_cluster import RabbitCluster
from tools.faults.small_disk import SmallDisk

__all__ = ["MongoSet", "Namespace", "Proxy", "RabbitCluster", "SmallDisk", "Towards", "failing"]
