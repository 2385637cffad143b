-- How much an owner may have under way: goes before store.lua, whose transitions call it.
--
-- `key` builds a key of the namespace, `clock` is what TIME answered, `job` the fields of the record. Days are those of
-- UTC. GPU time is in whole milliseconds: `gpu_estimate` of a job that has one, `gpu_used` of a job that ran.

local allowance = {}
local DAY = 86400

local function used_today(key, clock, job)
  return key('gpu-used', job.owner, string.format('%d', math.floor(tonumber(clock[1]) / DAY)))
end

-- Its owner is promised what the job is estimated to take (sign 1), or no longer (-1).
function allowance.promise(key, job, sign)
  local estimate = tonumber(job.gpu_estimate or 0)
  local name = key('gpu-promised', job.owner)
  if estimate > 0 and redis.call('INCRBY', name, sign * estimate) <= 0 then
    redis.call('DEL', name)
  end
end

-- The job is no longer under way: what it was promised gives way to what it took.
function allowance.settle(key, clock, job)
  allowance.promise(key, job, -1)
  if tonumber(job.gpu_used or 0) > 0 then
    local name = used_today(key, clock, job)
    redis.call('INCRBY', name, job.gpu_used)
    redis.call('EXPIRE', name, 2 * DAY)
  end
end

-- Why the job cannot be taken now; nothing when it can.
-- most.active: jobs its owner may have under way. most.gpu: GPU time they may take a day. most.queued: jobs in its
-- lane. 0 is any amount.
function allowance.refusal(key, clock, job, most)
  local active = redis.call('ZCARD', key('owned', 'queued', job.owner))
    + redis.call('ZCARD', key('owned', 'running', job.owner))
  if most.active > 0 and active >= most.active then
    return {'refused', 'too-many-jobs', 'active', active}
  end
  if most.gpu > 0 and job.lane == 'gpu' then
    local used = tonumber(redis.call('GET', used_today(key, clock, job)) or 0)
    local promised = tonumber(redis.call('GET', key('gpu-promised', job.owner)) or 0)
    if used + promised + math.max(1, tonumber(job.gpu_estimate or 0)) > most.gpu then
      return {'refused', 'gpu-seconds-spent', 'used', used, 'promised', promised, 'resets_in', DAY - clock[1] % DAY}
    end
  end
  local queued = 0
  for _, priority in ipairs({'high', 'default', 'low'}) do
    queued = queued + redis.call('ZCARD', key('queued', job.lane, priority))
  end
  if most.queued > 0 and queued >= most.queued then
    return {'refused', 'queue-full', 'queued', queued}
  end
end
