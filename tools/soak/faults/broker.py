"""What happens to RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random

from aio_pika.abc import AbstractChannel

from tools.services.rabbitmq import RabbitMQNode
from tools.soak.plan import SERVICE
from tools.soak.scene import Scene
from tools.soak.service import SUBSCRIPTION

QUEUES = (
    ("job_board", ".0of2"),
    ("job_board", ".1of2"),
    ("job_replicas", ""),
    ("applications_by_job", ""),
    ("applicant_history", ""),
    ("purses", ""),
)
"""Those of projections: each is called as the collection that it feeds."""
USER, EVERYTHING = "guest", (".*", ".*", ".*")
MARGIN = timedelta(minutes=2)
"""How long before a fault events may have been published that were in queues yet."""
NO_MEMORY, USUAL_MEMORY = "0.00001", "0.4"


async def broker_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to a node; it is started again."""
    await scene.queues_safe()
    node = draw.choice(scene.rabbit.nodes)
    await asyncio.to_thread(node.kill)
    await asyncio.sleep(draw.uniform(0, 1))
    await _start(scene, node)
    yield


async def broker_stop(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A node is stopped cleanly, and started again."""
    await scene.queues_safe()
    node = draw.choice(scene.rabbit.nodes)
    await asyncio.to_thread(node.stop)
    await _start(scene, node)
    yield


async def broker_freeze(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A node does not get on for some seconds; its connections stay open."""
    node = draw.choice(scene.rabbit.nodes)
    node.pause()
    try:
        await asyncio.sleep(draw.uniform(0.5, 6))
    finally:
        node.resume()
    yield


async def alarm(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A node is out of memory, it says, and takes no messages for a while."""
    node = scene.any_broker()
    await _control(node, "set_vm_memory_high_watermark", NO_MEMORY)
    try:
        await asyncio.sleep(draw.uniform(0.5, 3))
    finally:
        await _control(node, "set_vm_memory_high_watermark", USUAL_MEMORY)
    yield


async def connections_closed(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The broker closes all connections."""
    await _control(scene.any_broker(), "close_all_connections", "the soak")
    yield


async def queue_deleted(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A projection's queue is deleted with all that is in it; the log has it."""
    queue = _queue(scene, *draw.choice(QUEUES))
    await scene.queues_safe()
    await scene.at_broker(lambda channel: channel.queue_delete(queue))
    scene.queues_declared()
    yield


async def broker_emptied(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The broker comes back with nothing: no queue, no exchange, no message."""
    node = scene.any_broker()
    await _control(node, "stop_app")
    await _control(node, "reset")
    await _control(node, "start_app")
    scene.queues_declared()
    yield


async def exchange_deleted(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The exchange of events is deleted, and with it all that was bound to it."""
    await scene.at_broker(lambda channel: channel.exchange_delete(f"{SERVICE}.events"))
    yield


async def handlers_queue_deleted(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A queue of event handlers is deleted with all that is in it; a worker fills it again."""
    await scene.queues_safe()
    await scene.at_broker(lambda channel: channel.queue_delete(f"{SERVICE}.{SUBSCRIPTION}"))
    scene.queues_declared()
    yield


async def handlers_queue_purged(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """A queue of event handlers is emptied, which nobody can notice; an operator sends it again."""
    begun = datetime.now(UTC)

    async def purge(channel: AbstractChannel) -> None:
        await (await channel.get_queue(f"{SERVICE}.{SUBSCRIPTION}", ensure=False)).purge()

    await scene.at_broker(purge)
    yield
    await _sent_again(scene, begun)


async def password_rotated(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The broker takes another password for some seconds, and cuts all that were let in before."""
    await _control(scene.any_broker(), "change_password", USER, "another")
    try:
        await _control(scene.any_broker(), "close_all_connections", "the soak")
        await asyncio.sleep(draw.uniform(0.5, 5))
    finally:
        await _control(scene.any_broker(), "change_password", USER, USER)
    yield


async def rights_revoked(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """The service's user may do nothing at the broker for some seconds."""
    await _control(scene.any_broker(), "clear_permissions", USER)
    try:
        await asyncio.sleep(draw.uniform(0.5, 5))
    finally:
        await _control(scene.any_broker(), "set_permissions", USER, *EVERYTHING)
    yield


async def leader_kill(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """SIGKILL to the node that leads a queue; another one takes the lead."""
    queue = _queue(scene, *draw.choice(QUEUES))
    await scene.queues_safe()
    node = await asyncio.to_thread(scene.rabbit.leader_of, queue)
    await asyncio.to_thread(node.kill)
    yield
    await _start(scene, node)


async def majority_lost(scene: Scene, draw: Random) -> AsyncIterator[None]:
    """Two nodes of three are killed: nothing is confirmed until one is back."""
    await scene.queues_safe()
    nodes = draw.sample(scene.rabbit.nodes, k=len(scene.rabbit.nodes) // 2 + 1)
    await asyncio.gather(*(asyncio.to_thread(node.kill) for node in nodes))
    await asyncio.sleep(draw.uniform(0, 2))
    await asyncio.gather(*(asyncio.to_thread(node.start) for node in nodes))
    await _whole(scene)
    yield


async def _sent_again(scene: Scene, begun: datetime) -> None:
    """What an operator does: projections heal by themselves, handlers' queues do not."""
    since = (begun - MARGIN).isoformat()
    told = ("republish", "--to", SUBSCRIPTION, "--since", since)
    await asyncio.to_thread(scene.processes.command, scene.release, *told)


def _queue(scene: Scene, projection: str, suffix: str) -> str:
    return f"{SERVICE}.{scene.collection(projection).removesuffix('__v1')}{suffix}"


async def _start(scene: Scene, node: RabbitMQNode) -> None:
    await asyncio.to_thread(node.start)
    await _whole(scene)


async def _whole(scene: Scene) -> None:
    """A member that is not back yet counts as lost: the next fault would lose the majority."""
    if len(scene.rabbit.nodes) == 1:
        return
    await asyncio.to_thread(scene.rabbit.await_whole)
    for queue in QUEUES:
        await asyncio.to_thread(scene.rabbit.await_online, _queue(scene, *queue))


async def _control(node: RabbitMQNode, *arguments: str) -> None:
    await asyncio.to_thread(node.control, *arguments)
