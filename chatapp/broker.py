"""How jobs travel: kombu's transport for Redis, which a worker survives that loses its broker in the middle of a job.

kombu gives a lost connection up, and then still sends back or acknowledges over it what was taken from it. The
AttributeError of that ends the worker. There is nothing to say over such a connection: Redis forgot it, or hands out
again what was not acknowledged, after its visibility timeout. Jobs may be done twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


class QoS(redis.QoS):
    @property
    def _is_lost(self) -> bool:
        connection = self.channel.connection
        return connection is None or connection.client is None

    @contextmanager
    def _unless_lost(self, sentence: str) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError, AttributeError) as error:
            # Looked at afterwards: jobs end in threads, while another gives the connection up.
            if isinstance(error, AttributeError) and not self._is_lost:
                raise
            log.warning(sentence, error=type(error).__name__)

    def ack(self, delivery_tag: str) -> None:
        with self._unless_lost("job not acknowledged"):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        with self._unless_lost("job not given back"):
            super().reject(delivery_tag, requeue=requeue)

    def restore_unacked(self, client: Any = None) -> None:
        if self._is_lost:
            self._delivered.clear()
        else:
            super().restore_unacked(client)


class Channel(redis.Channel):
    QoS = QoS


class Transport(redis.Transport):
    Channel = Channel


def use() -> None:
    """Have Celery travel so. A setting would name a transport in the place of the URL's scheme, which asks for TLS."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:{Transport.__name__}"))
