-- The transitions of a job's record: compare state and attempt, then set, in one step.
--
-- KEYS[1] the record; ARGV: verb, namespace, job id, then the verb's own arguments (attempt first where it has one).
-- Answers {'ok', state before, record as field, value, …}; renew and progress {'ok', verdict}.
-- Refusals: {'superseded'}, {'conflict', state}, {'missing'}, {'refused', reason, name, value, …}; they leave
-- everything as it was.
--
-- Every record is in exactly one of the sets queued, running, expiry (ended) and tombstones (expired), the one that
-- fits its state. The other keys are built from the namespace, so all of them live in one Redis, not in a cluster. What
-- owners may have under way is counted by allowance.lua, what Prometheus reads by counting.lua; both go before.

local verb, namespace, id = ARGV[1], ARGV[2], ARGV[3]
local record = KEYS[1]

local TOMBSTONE_TTL = 90 * 86400 -- seconds an expired job still answers as expired
local EVENTS_KEPT = 300
local EVENTS_LINGER = 300        -- seconds for a reader of the stream to see how it ended
local MARK_KEPT = 86400          -- seconds for a worker that was stopped to learn that its job was deleted

local clock = redis.call('TIME')
local stamp = string.format('%d.%06d', clock[1], clock[2])
local now = tonumber(stamp)
local beat = string.format('%.0f', tonumber(clock[1]) * 1000000 + tonumber(clock[2])) -- a double holds it exactly

local function key(...)
  return table.concat({namespace, ...}, ':')
end

local job = {}

local function load()
  local names = {'state', 'attempt', 'deaths', 'errors', 'owner', 'lane', 'priority', 'queued_at', 'expires_at',
    'result_ttl', 'worker', 'webhook', 'cancel_requested', 'preview', 'gpu_estimate', 'gpu_used', 'method', 'size',
    'started_at', 'claim', 'uploads', 'faults', 'refusals'}
  local values = redis.call('HMGET', record, unpack(names))
  for i, name in ipairs(names) do
    job[name] = values[i] or nil
  end
end

local function ticket()
  return id .. '-' .. job.attempt
end

local function queue()
  return key('queued', job.lane, job.priority)
end

local function ended()
  return job.state == 'succeeded' or job.state == 'failed' or job.state == 'canceled'
end

local function set(name, value)
  job[name] = value
  redis.call('HSET', record, name, value)
end

local function unset(...)
  for _, name in ipairs({...}) do
    job[name] = nil
  end
  redis.call('HDEL', record, ...)
end

local function count(field)
  counting.count(key('counters'), field)
end

local function observe(name, labels, since)
  counting.observe(key('counters'), name, labels, math.max(0, now - tonumber(since)))
end

-- Append an event; `data` is JSON.
local function emit(type, data)
  return redis.call('XADD', key('events', id), 'MAXLEN', '~', EVENTS_KEPT, '*', 'type', type, 'data', data)
end

local function shown()
  return cjson.encode({
    state = job.state,
    attempt = tonumber(job.attempt),
    deaths = tonumber(job.deaths),
    errors = tonumber(job.errors),
    cancel_requested = job.cancel_requested ~= nil,
  })
end

-- `problem`, when given, is JSON already and goes in as it is.
local function emit_state(problem)
  local data = shown()
  if problem then
    data = string.sub(data, 1, -2) .. ',"error":' .. problem .. '}'
  end
  emit('state', data)
end

-- Take the job out of whatever fits its present state.
local function leave()
  if job.state == 'queued' then
    redis.call('ZREM', queue(), ticket())
  elseif job.state == 'running' then
    redis.call('ZREM', key('running'), ticket())
    redis.call('SREM', key('running', job.lane), ticket())
    if job.preview then
      redis.call('XDEL', key('events', id), job.preview)
    end
    unset('preview')
  elseif job.state == 'expired' then
    redis.call('ZREM', key('tombstones'), id)
  else
    redis.call('ZREM', key('expiry'), id)
    redis.call('ZREM', key('dead'), id)
    redis.call('ZREM', key('undelivered'), ticket())
  end
  redis.call('ZREM', key('owned', job.state, job.owner), id)
end

local function enter(state)
  set('state', state)
  redis.call('ZADD', key('owned', state, job.owner), 0, id)
end

-- → queued with the next attempt. In front of the queue the scores fall below zero, as RQ pushes on the left.
local function to_queue(front)
  leave()
  set('attempt', string.format('%d', tonumber(job.attempt) + 1))
  enter('queued')
  set('queued_at', stamp)
  unset('started_at', 'finished_at', 'expires_at', 'worker', 'progress', 'gpu_used')
  local order = redis.call('INCR', key('order'))
  redis.call('ZADD', queue(), front and -order or order, ticket())
  emit_state()
end

-- → succeeded, failed or canceled.
local function finish(state, problem)
  leave()
  allowance.settle(key, clock, job)
  enter(state)
  local expires = now + tonumber(job.result_ttl)
  set('finished_at', stamp)
  set('expires_at', string.format('%.6f', expires))
  redis.call('ZADD', key('expiry'), string.format('%.6f', expires), id)
  if job.webhook then
    redis.call('ZADD', key('undelivered'), stamp, ticket())
  end
  if problem then
    set('error', problem)
  end
  local method = 'method="' .. (job.method or 'unknown') .. '"'
  local outcome = 'outcome="' .. state .. '"'
  count('jobs_total{' .. outcome .. ',' .. method .. '}')
  if job.started_at then
    local size = 'size="' .. (job.size or 'unknown') .. '"'
    observe('job_seconds', method .. ',' .. size .. ',' .. outcome, job.started_at)
  end
  emit_state(problem)
end

-- → failed, into the dead-letter list.
local function quarantine(problem)
  set('quarantined', '1')
  finish('failed', problem)
  redis.call('ZADD', key('dead'), 0, id)
  count('quarantines_total')
end

local function answer(before)
  local reply = redis.call('HGETALL', record)
  table.insert(reply, 1, before)
  table.insert(reply, 1, 'ok')
  return reply
end

local function conflict()
  return {'conflict', job.state}
end

local function renew()
  redis.call('ZADD', key('running'), beat, ticket())
end

local function verdict()
  return {'ok', job.cancel_requested and 'cancel' or 'go'}
end

-- Verbs that a caller or the keeper uses on a job, whichever attempt it is at.
local on_job = {}

-- Whether it would be taken. Arguments: nothing, three for `allowance.refusal`, then the record's own fields, as field,
-- value, …
function on_job.admit()
  for i = 8, #ARGV, 2 do
    job[ARGV[i]] = ARGV[i + 1]
  end
  local most = {active = tonumber(ARGV[5]), gpu = tonumber(ARGV[6]), queued = tonumber(ARGV[7])}
  return allowance.refusal(key, clock, job, most) or {'ok', 'queued'}
end

-- The files of a request that may still make a job of them: erased after so many seconds, unless it does.
-- Argument: these.
function on_job.reserve()
  redis.call('ZADD', key('reserved'), stamp, id)
  redis.call('ZADD', key('erasures'), string.format('%.6f', now + tonumber(ARGV[4])), id)
  return {'ok', 'queued'}
end

-- Arguments as of `admit`, the first of them what names this one call.
-- KEYS[2], if given: a claim that must be this job's.
function on_job.submit()
  if job.state then
    -- The driver sends a call again when the answer was lost: it is the same submission.
    return redis.call('HGET', record, 'submission') == ARGV[4] and answer(job.state) or conflict()
  end
  if KEYS[2] then
    local claim = redis.call('GET', KEYS[2])
    if not claim or cjson.decode(claim).job ~= id then
      return {'refused', 'taken-over'}
    end
  end
  local admission = on_job.admit()
  if admission[1] == 'refused' then
    return admission
  end
  if KEYS[2] then
    redis.call('HSET', record, 'claim', KEYS[2])
  end
  redis.call('HSET', record, 'attempt', '0', 'deaths', '0', 'errors', '0', 'created_at', stamp, 'submission',
    ARGV[4], unpack(ARGV, 8))
  load()
  allowance.promise(key, job, 1)
  for _, upload in ipairs(cjson.decode(job.uploads or '[]')) do
    redis.call('HDEL', key('unused-uploads', job.owner), upload)
  end
  redis.call('ZADD', key('owned', 'all', job.owner), 0, id)
  redis.call('ZREM', key('erasures'), id)
  redis.call('ZREM', key('reserved'), id)
  -- Not in any set yet, so there is nothing to leave but the empty state.
  job.state = 'queued'
  to_queue(false)
  count('jobs_submitted_total')
  return answer('queued')
end

function on_job.cancel()
  local before = job.state
  if before == 'queued' then
    finish('canceled')
  elseif before == 'running' then
    redis.call('PUBLISH', key('cancel'), ticket())
    if not job.cancel_requested then
      set('cancel_requested', '1')
      emit_state()
    end
  end
  return answer(before)
end

-- The answer that was kept for the request's repetition holds the whole job. `:alive` as in idempotency.py.
local function forget_claim()
  local found = job.claim and redis.call('GET', job.claim)
  if found and cjson.decode(found).job == id then
    redis.call('DEL', job.claim, job.claim .. ':alive')
  end
end

-- Of the stream nothing is left but, for who follows the job, that it is over. Where a worker may still be at one of
-- its attempts the same is its mark that the job was deleted: a record that is merely not there is no proof of it.
local function forget_events(before)
  local events = key('events', id)
  local held = before == 'running' or (before ~= 'expired' and tonumber(job.attempt) > 1)
  if held or before == 'queued' then
    redis.call('XADD', events, 'MAXLEN', 1, '*', 'type', 'state', 'data', shown())
    redis.call('EXPIRE', events, held and MARK_KEPT or EVENTS_LINGER)
  else
    redis.call('DEL', events)
  end
end

-- Argument: seconds until a running attempt must have noticed.
function on_job.delete()
  local before, reply = job.state, answer(job.state)
  leave()
  local due = now
  if before == 'queued' or before == 'running' then
    allowance.settle(key, clock, job)
    redis.call('PUBLISH', key('cancel'), ticket())
    job.state = 'canceled'
    due = now + tonumber(ARGV[4])
  end
  forget_events(before)
  forget_claim()
  for attempt = 1, tonumber(job.attempt) do
    local name = string.format('%s-%d', id, attempt)
    redis.call('ZREM', key('undelivered'), name)
    redis.call('DEL', key('ended', name))
  end
  for _, upload in ipairs(cjson.decode(job.uploads or '[]')) do
    redis.call('DEL', key('upload', upload))
  end
  redis.call('ZREM', key('owned', 'all', job.owner), id)
  redis.call('ZADD', key('erasures'), string.format('%.6f', due), id)
  redis.call('DEL', record)
  return reply
end

-- What its receiver is still to be told of the end that is taken back goes into a record of its own.
local function keep_untold()
  local untold = redis.call('ZSCORE', key('undelivered'), ticket())
  if untold then
    redis.call('HSET', key('ended', ticket()), unpack(redis.call('HGETALL', record)))
    redis.call('EXPIRE', key('ended', ticket()), TOMBSTONE_TTL) -- should nobody ever come to tell it
  end
  return untold, ticket()
end

function on_job.redrive()
  if job.state ~= 'failed' then
    return conflict()
  end
  local untold, failed = keep_untold()
  set('deaths', '0')
  set('errors', '0')
  unset('quarantined', 'error', 'cancel_requested', 'faults', 'refusals')
  allowance.promise(key, job, 1)
  to_queue(false)
  if untold then
    redis.call('ZADD', key('undelivered'), untold, failed)
  end
  count('redrives_total')
  return answer('failed')
end

-- An ended job becomes a tombstone.
local function bury()
  local before = job.state
  leave()
  enter('expired')
  unset('options', 'keyframes', 'webhook', 'progress', 'result', 'error', 'quarantined', 'traceparent', 'worker',
    'claim', 'uploads', 'faults', 'refusals')
  -- A hash that once held a long value stays in the form for long ones, which takes several times the memory.
  local short = redis.call('HGETALL', record)
  redis.call('DEL', record)
  redis.call('HSET', record, unpack(short))
  redis.call('ZADD', key('tombstones'), string.format('%.6f', now + TOMBSTONE_TTL), id)
  redis.call('ZADD', key('erasures'), stamp, id)
  emit_state()
  redis.call('EXPIRE', key('events', id), EVENTS_LINGER)
  return answer(before)
end

function on_job.expire()
  if not ended() or tonumber(job.expires_at) > now then
    return conflict()
  end
  if redis.call('ZSCORE', key('undelivered'), ticket()) then
    return conflict() -- what its receiver will be told stands in the record alone
  end
  return bury()
end

-- Its files are not in storage any more, whatever its record says.
function on_job.lose()
  return job.state == 'succeeded' and bury() or conflict()
end

-- Verbs of one attempt; ARGV[4] is the attempt, which is the job's present one.
local on_attempt = {}

-- A verb that only a running job knows; `over` is the state in which it answers again what it has answered.
local function of_running(over, act)
  return function()
    if over and job.state == over then
      return answer(over)
    end
    return job.state == 'running' and act() or conflict()
  end
end

local function add_to(name, worker)
  local numbers = job[name] and cjson.decode(job[name]) or {}
  numbers[worker] = (numbers[worker] or 0) + 1
  set(name, cjson.encode(numbers))
  return numbers
end

function on_attempt.start()
  local worker = ARGV[5]
  if job.state == 'running' and job.worker == worker then
    return answer('running')
  end
  if job.state ~= 'queued' then
    return conflict()
  end
  leave()
  enter('running')
  redis.call('SADD', key('running', job.lane), ticket())
  set('started_at', stamp)
  set('worker', worker)
  unset('losses')
  renew()
  observe('queue_wait_seconds', 'lane="' .. job.lane .. '",priority="' .. job.priority .. '"', job.queued_at)
  emit_state()
  return answer('queued')
end

on_attempt.renew = of_running(nil, function()
  renew()
  return verdict()
end)

-- Arguments: progress as JSON, preview as JSON or nothing, milliseconds of GPU so far or nothing.
on_attempt.progress = of_running(nil, function()
  renew()
  set('progress', ARGV[5])
  emit('progress', ARGV[5])
  if ARGV[7] ~= '' then
    set('gpu_used', ARGV[7])
  end
  if ARGV[6] ~= '' then
    if job.preview then
      redis.call('XDEL', key('events', id), job.preview)
    end
    set('preview', emit('preview', ARGV[6]))
  end
  return verdict()
end)

-- Arguments: the result as JSON, milliseconds of GPU that it took or nothing.
on_attempt.succeed = of_running('succeeded', function()
  set('result', ARGV[5])
  if ARGV[6] ~= '' then
    set('gpu_used', ARGV[6])
  end
  finish('succeeded')
  return answer('running')
end)

-- Arguments: the problem as JSON, the errors that end the job (0: this one does).
on_attempt.fail = of_running('failed', function()
  local most = tonumber(ARGV[6])
  set('errors', string.format('%d', tonumber(job.errors) + 1))
  if most > 0 and job.cancel_requested then
    finish('canceled')
  elseif tonumber(job.errors) < most then
    to_queue(true)
    count('retries_total')
  else
    finish('failed', ARGV[5])
  end
  return answer('running')
end)

-- Argument: the worker whose engine refuses the job, which then waits behind the others; else nothing.
on_attempt.release = of_running(nil, function()
  if job.cancel_requested then
    finish('canceled')
  else
    if ARGV[5] ~= '' then
      add_to('refusals', ARGV[5])
    end
    to_queue(ARGV[5] == '')
    count('releases_total')
  end
  return answer('running')
end)

-- Arguments: the worker, the number that ends the job, whether it counts, whether another worker is left, the problem.
on_attempt.ran_out = of_running('failed', function()
  count('machine_faults_total')
  local workers, times = 0, 0
  if ARGV[7] ~= '' then
    for _, number in pairs(add_to('faults', ARGV[5])) do
      workers, times = workers + 1, times + number
    end
  end
  local most = tonumber(ARGV[6])
  if job.cancel_requested then
    finish('canceled')
  elseif workers >= most or (ARGV[8] == '' and times >= most) then
    finish('failed', ARGV[9])
  else
    to_queue(true)
  end
  return answer('running')
end)

function on_attempt.stopped()
  if job.state == 'canceled' then
    return answer('canceled')
  end
  if job.state ~= 'running' or not job.cancel_requested then
    return conflict()
  end
  finish('canceled')
  return answer('running')
end

-- Arguments: the cause, the deaths that end the job, the problem as JSON for that case, the lease seen or nothing.
on_attempt.died = of_running(nil, function()
  if ARGV[8] ~= '' and tonumber(redis.call('ZSCORE', key('running'), ticket())) ~= tonumber(ARGV[8]) then
    return conflict()
  end
  set('deaths', string.format('%d', tonumber(job.deaths) + 1))
  count('reclaims_total{cause="' .. ARGV[5] .. '"}')
  if job.cancel_requested then
    finish('canceled')
  elseif tonumber(job.deaths) >= tonumber(ARGV[6]) then
    quarantine(ARGV[7])
  else
    to_queue(true)
  end
  return answer('running')
end)

function on_attempt.requeue()
  if job.state ~= 'queued' then
    return conflict()
  end
  to_queue(true)
  redis.call('HINCRBY', record, 'losses', 1)
  count('reclaims_total{cause="lost"}')
  return answer('queued')
end

load()
if verb == 'submit' or verb == 'admit' or verb == 'reserve' then
  return on_job[verb]()
elseif on_job[verb] then
  return job.state and on_job[verb]() or {'missing'}
elseif job.attempt ~= ARGV[4] then
  return {'superseded'}
end
return on_attempt[verb]()
