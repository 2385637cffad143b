"""Which model a namespace serves: engines of another would answer the same request with other pictures.

The first engine that is ready names it. One that has another model or revision takes no jobs, and says why, unless it
was told to change what is served (`MODEL_CHANGE`); the engines of the model before may then go on until they end. A
namespace whose model no engine has any more, and for which no job waits, takes another that has asked all the while: an
outage, or an engine that starts again, is no end of it.
"""

from __future__ import annotations

from typing import Any

import redis

from service.jobs.record import PRIORITIES
from service.redis_keys import RedisKeys
from service.settings import ServiceSettings

FRESH_SECONDS = 60
"""How long a model counts as one that an engine has, after the engine has last asked; and how long another must ask."""
GAP_SECONDS = 20
"""Between two times of asking that are one wait."""

_ADMIT = """
-- KEYS: the model served, when each model was last seen, since when and until when each refused one has asked, the
-- running jobs of the gpu lane, its queues.
-- ARGV: a model, whether it may change what is served, whether other engines are there, seconds, seconds of a gap.
-- Answers with the model served instead, or nothing.
local name, change, accompanied = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'
local patience, gap = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(redis.call('TIME')[1])
local served = redis.call('GET', KEYS[1])

local function is_there(model)
  local seen = redis.call('HGET', KEYS[2], model)
  return seen and now - tonumber(seen) < patience
end

local function waiting()
  local count = redis.call('SCARD', KEYS[4])
  for i = 5, #KEYS do
    count = count + redis.call('ZCARD', KEYS[i])
  end
  return count > 0
end

-- Seconds for which the model has asked by itself, without a gap.
local function asked()
  local first, last = string.match(redis.call('HGET', KEYS[3], name) or '', '^(%d+) (%d+)$')
  if accompanied or not last or now - tonumber(last) > gap then
    first = now
  end
  redis.call('HSET', KEYS[3], name, first .. ' ' .. now)
  return now - tonumber(first)
end

local mine = not served or served == name or change
if not mine and not is_there(name) then
  local seconds = asked()
  mine = seconds >= patience and not is_there(served) and not waiting()
  if not mine then
    return served
  end
end
if mine then
  redis.call('SET', KEYS[1], name)
end
redis.call('HDEL', KEYS[3], name)
redis.call('HSET', KEYS[2], name, now)
local models = redis.call('HGETALL', KEYS[2])
for i = 1, #models, 2 do
  if not is_there(models[i]) then
    redis.call('HDEL', KEYS[2], models[i])
  end
end
return nil
"""


def model_name(model: str, revision: str | None) -> str:
    """Name a model with its revision as one text, `model@revision`."""
    return f"{model}@{revision}" if revision else model


class Served:
    """The model that a namespace serves."""

    def __init__(self, connection: redis.Redis, settings: ServiceSettings) -> None:
        self._script = connection.register_script(_ADMIT)
        self._change = settings.model_change
        keys = RedisKeys(settings.namespace)
        self._keys = [
            keys.model,
            keys.models,
            keys.models_asking,
            keys.running_in("gpu"),
            *(keys.queued("gpu", priority) for priority in PRIORITIES),
        ]

    def refusal(self, name: str, accompanied: bool = False) -> str | None:
        """Say why an engine with this model may take no jobs, or None where it may; to be asked every few seconds.

        name: as of `model_name`. accompanied: whether other engines are ready or starting, whose model it may be.
        Raises redis' errors.
        """
        flags = ["1" if flag else "" for flag in (self._change, accompanied)]
        served: Any = self._script(keys=self._keys, args=[name, *flags, str(FRESH_SECONDS), str(GAP_SECONDS)])
        if served is None:
            return None
        return (
            f"it has {name}, and the namespace serves {served.decode()}: start it with that model, in a NAMESPACE of "
            "its own, or with MODEL_CHANGE=true to serve this one from now on"
        )
