"""Valkey as Django's cache, which a page can do without."""

from typing import Any

import structlog
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


class ForgivingRedisCache(RedisCache):
    """Empty while Valkey is away, instead of an error.

    What is kept here are the counts by which sign-in slows down guessing; without them people can still sign in.
    """

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        try:
            return super().get(key, default, version)
        except RedisError as error:
            return self._away(error, default)

    def set(self, key: str, value: Any, *arguments: Any, **options: Any) -> None:
        try:
            super().set(key, value, *arguments, **options)
        except RedisError as error:
            self._away(error, None)

    def add(self, key: str, value: Any, *arguments: Any, **options: Any) -> bool:
        try:
            return bool(super().add(key, value, *arguments, **options))
        except RedisError as error:
            return bool(self._away(error, True))

    def delete(self, key: str, version: int | None = None) -> bool:
        try:
            return bool(super().delete(key, version))
        except RedisError as error:
            return bool(self._away(error, False))

    def _away(self, error: RedisError, instead: Any) -> Any:
        log.warning("cache away", error=type(error).__name__)
        return instead
