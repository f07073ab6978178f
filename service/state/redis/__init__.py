"""State in Redis, shared by replicas; how it lies there is in `state`."""

from service.state.redis.open import FILE
from service.state.redis.state import RedisState

__all__ = ["FILE", "RedisState"]
