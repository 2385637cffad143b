"""Which model a namespace serves: engines of another would answer the same request with other pictures.

The first engine that is ready names it. One that has another model or revision takes no jobs, and says why, unless it
was told to change what is served (`MODEL_CHANGE`); the engines of the model before may then go on until they end. A
namespace whose model no engine has any more, and for which no job waits, takes the next one that comes.
"""

from __future__ import annotations

from typing import Any

import redis

from service.records import PRIORITIES, Keys
from service.settings import Settings

FRESH_SECONDS = 60
"""How long a model counts as one that an engine has, after the engine has last asked."""

_ADMIT = """
-- KEYS: the model served, when each model was last seen, the running jobs of the gpu lane, its queues.
-- ARGV: a model, whether it may change what is served, seconds. Answers with the model served instead, or nothing.
local name, change, patience = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
local served = redis.call('GET', KEYS[1])

local function is_there(model)
  local seen = redis.call('HGET', KEYS[2], model)
  return seen and now - tonumber(seen) < patience
end

local function waiting()
  local count = redis.call('SCARD', KEYS[3])
  for i = 4, #KEYS do
    count = count + redis.call('ZCARD', KEYS[i])
  end
  return count > 0
end

local mine = not served or served == name or change or not is_there(served) and not waiting()
if mine then
  redis.call('SET', KEYS[1], name)
elseif not is_there(name) then
  return served
end
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

    def __init__(self, connection: redis.Redis, settings: Settings) -> None:
        self._script = connection.register_script(_ADMIT)
        self._change = settings.model_change
        keys = Keys(settings.namespace)
        self._keys = [
            f"{settings.namespace}:model",
            f"{settings.namespace}:models",
            keys.running_in("gpu"),
            *(keys.queued("gpu", priority) for priority in PRIORITIES),
        ]

    def refusal(self, name: str) -> str | None:
        """Say why an engine with this model may take no jobs, or None where it may; to be asked again and again.

        name: as of `model_name`. Raises redis' errors.
        """
        served: Any = self._script(keys=self._keys, args=[name, "1" if self._change else "", str(FRESH_SECONDS)])
        if served is None:
            return None
        return (
            f"it has {name}, and the namespace serves {served.decode()}: start it with that model, in a NAMESPACE of "
            "its own, or with MODEL_CHANGE=true to serve this one from now on"
        )
