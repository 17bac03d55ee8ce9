"""How jobs travel: kombu's transport for Redis, which a worker survives that loses its broker in the middle of a job.

kombu gives a lost connection up, and then still sends back or acknowledges over it what was taken from it. The
AttributeError of that ends the worker. There is nothing to say over such a connection: Redis forgot it, or hands out
again what was not acknowledged, after its visibility timeout. Jobs may be done twice.
"""

from typing import Any

import structlog
from kombu.transport import redis

log = structlog.get_logger(__name__)


class QoS(redis.QoS):
    @property
    def _is_lost(self) -> bool:
        connection = self.channel.connection
        return connection is None or connection.client is None

    def ack(self, delivery_tag: str) -> None:
        if self._is_lost:
            log.warning("job not acknowledged", reason="its connection to the broker was lost")
        else:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self._is_lost:
            super().reject(delivery_tag, requeue=requeue)

    def restore_unacked(self, client: Any = None) -> None:
        if not self._is_lost:
            super().restore_unacked(client)


class Channel(redis.Channel):
    QoS = QoS


class Transport(redis.Transport):
    Channel = Channel
