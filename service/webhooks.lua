-- The transitions of a webhook delivery, each atomic.
--
-- KEYS[1]: the delivery's hash. ARGV: verb, namespace, delivery id, then the verb's own arguments.
-- `forget` is of a job: KEYS[1] is the set of its deliveries, and the id is the job's.
-- Replies: {'ok' | 'exists', field, value, ...}, {'later', 'wait', seconds} when the receiver is left alone for a
-- while or an earlier event of the job comes first, {'over'} when the run is not the live one or nothing is pending,
-- or {'missing'}.
--
-- The events of one job reach its receiver in the order of its attempts: a delivery waits while one of an earlier
-- attempt is pending, and one whose later event may have been seen is superseded.

local record = KEYS[1]
local verb, namespace, id = ARGV[1], ARGV[2], ARGV[3]

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

local KEPT = 40 * 86400 -- seconds a delivery is kept after it was recorded or driven again
local LEASE = 60 -- seconds a try may take before the sweep looks for it
local TRIES_LOGGED = 100
local SHORTEST_REST = 30 -- seconds a host that did not answer is left alone; doubles each time
local LONGEST_REST = 300
local LONGEST_TURN = 3600 -- seconds until a delivery that waits for an earlier one looks again by itself

local function key(...)
  return table.concat({ namespace, ... }, ':')
end

local function get(field)
  return redis.call('HGET', record, field)
end

local function set(...)
  redis.call('HSET', record, ...)
end

local function reply(word)
  local answer = redis.call('HGETALL', record)
  table.insert(answer, 1, word)
  return answer
end

local function keep()
  redis.call('EXPIRE', record, KEPT)
  redis.call('EXPIRE', key('delivery-log', id), KEPT)
  redis.call('EXPIRE', key('job-deliveries', get('job')), KEPT)
end

-- Where to look for what should be happening, and from when on.
local function due(seconds)
  redis.call('ZADD', key('deliveries-due'), string.format('%.3f', now + seconds), id)
end

local function closed()
  return key('webhook-closed', get('endpoint'))
end

-- A host that does not answer costs each try its whole time-out. While it rests, the other events of the same owner
-- for it are put off without being tried, so that it holds up nobody else's.
local function resting()
  return key('webhook-resting', get('host'))
end

local function rest()
  local silences = key('webhook-silences', get('host'))
  local count = redis.call('INCR', silences)
  local seconds = math.min(LONGEST_REST, SHORTEST_REST * 2 ^ math.min(count - 1, 10))
  redis.call('EXPIRE', silences, 2 * LONGEST_REST)
  redis.call('SET', resting(), count, 'EX', string.format('%d', seconds))
end

local function wake()
  redis.call('DEL', resting(), key('webhook-silences', get('host')))
end

local function siblings()
  return key('job-deliveries', get('job'))
end

local function member_get(member, field)
  return redis.call('HGET', key('delivery', member), field)
end

-- Pending deliveries of the job's earlier attempts, oldest first.
local function earlier()
  local found = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', siblings(), '-inf', '(' .. get('attempt'))) do
    if member_get(member, 'state') == 'pending' then
      table.insert(found, member)
    end
  end
  return found
end

-- Whether an event of a later attempt has been sent, so that its receiver may have seen it.
local function overtaken()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', siblings(), '(' .. get('attempt'), '+inf')) do
    if member_get(member, 'begun') then
      return true
    end
  end
  return false
end

-- Pending again as a new run, so that whatever RQ still holds of the old one does nothing.
local function run_anew()
  redis.call('HINCRBY', record, 'run', 1)
  set('state', 'pending')
  due(LEASE)
end

local function finish(state)
  set('state', state)
  redis.call('HDEL', record, 'next_at')
  redis.call('ZREM', key('deliveries-due'), id)
end

-- A delivery's name in the lists of deliveries, which are read by time.
local function listing(created_at, member)
  return string.format('%013d', math.floor(created_at * 1000)) .. '.' .. member
end

local verbs = {}

function verbs.record(owner, ...)
  if redis.call('EXISTS', record) == 1 then
    return reply('exists')
  end
  set('id', id, 'owner', owner, 'created_at', string.format('%.6f', now), 'run', 1, 'tries', 0, 'spent', 0, ...)
  if redis.call('EXISTS', key('job', get('job'))) == 0 then
    redis.call('DEL', record) -- the job was deleted meanwhile, and nothing of it comes back
    return { 'missing' }
  end
  local listed = listing(now, id)
  redis.call('ZADD', key('deliveries', 'all'), 0, listed)
  redis.call('ZADD', key('deliveries', 'of', owner), 0, listed)
  redis.call('ZADD', siblings(), get('attempt'), id)
  if redis.call('EXISTS', closed()) == 1 then
    finish('disabled')
  else
    set('state', 'pending')
    due(LEASE)
  end
  keep()
  return reply('ok')
end

-- Ids of the job's other pending deliveries: 'earlier' or 'later' ones, oldest first.
function verbs.others(which)
  if which == 'earlier' then
    return { 'ok', 'ids', cjson.encode(earlier()) }
  end
  local found = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', siblings(), '(' .. get('attempt'), '+inf')) do
    if member_get(member, 'state') == 'pending' then
      table.insert(found, member)
    end
  end
  return { 'ok', 'ids', cjson.encode(found) }
end

-- Its turn has come sooner than planned: a new run, unless a try of it may be on its way right now.
function verbs.hasten()
  if get('state') ~= 'pending' or not get('next_at') then
    return { 'over' }
  end
  redis.call('HDEL', record, 'next_at')
  run_anew()
  return reply('ok')
end

-- A try that begins is spent, so that one which kills its process every time comes to an end too.
function verbs.begin(run, most)
  if get('state') ~= 'pending' or get('run') ~= run then
    return { 'over' }
  end
  if redis.call('EXISTS', closed()) == 1 then
    finish('disabled')
    return { 'over' }
  end
  if overtaken() then
    finish('superseded')
    return { 'over' }
  end
  local first = earlier()[1]
  if first then
    local expected = tonumber(member_get(first, 'next_at') or now + LEASE)
    local wait = math.ceil(math.max(1, math.min(LONGEST_TURN, expected - now + 1)))
    set('next_at', string.format('%.3f', now + wait))
    due(wait + LEASE)
    return { 'later', 'wait', tostring(wait) }
  end
  local left = redis.call('TTL', resting())
  if left > 0 then
    set('next_at', string.format('%.3f', now + left))
    due(left + LEASE)
    return { 'later', 'wait', tostring(left) }
  end
  if redis.call('HINCRBY', record, 'spent', 1) > tonumber(most) then
    finish('failed')
    return { 'over' }
  end
  set('begun', 1)
  redis.call('HDEL', record, 'next_at')
  due(LEASE)
  return reply('ok')
end

-- What a try came to. It is logged even when the delivery was driven again meanwhile, which then stands.
function verbs.settle(run, state, wait, entry, answered)
  redis.call('RPUSH', key('delivery-log', id), entry)
  redis.call('LTRIM', key('delivery-log', id), -TRIES_LOGGED, -1)
  redis.call('HINCRBY', record, 'tries', 1)
  counting.count(key('counters'), 'webhook_deliveries_total{result="' .. state .. '"}')
  keep()
  if answered == 'yes' then
    wake()
  else
    rest()
  end
  if state == 'disabled' then
    redis.call('SET', closed(), now, 'EX', KEPT)
  elseif state == 'delivered' then
    redis.call('DEL', closed())
  end
  if get('state') ~= 'pending' or get('run') ~= run then
    return { 'over' }
  end
  if state == 'retried' then
    set('next_at', string.format('%.3f', now + tonumber(wait)))
    due(tonumber(wait) + LEASE)
  else
    finish(state)
  end
  return reply('ok')
end

function verbs.redrive()
  redis.call('DEL', closed())
  wake()
  redis.call('HDEL', record, 'next_at')
  set('spent', 0)
  run_anew()
  keep()
  return reply('ok')
end

-- The job was deleted: `id` is the job's, and the record its set of deliveries. Answers with what RQ may have of them.
function verbs.forget()
  local tickets = {}
  for _, member in ipairs(redis.call('ZRANGE', record, 0, -1)) do
    local owner, created_at, run = unpack(redis.call('HMGET', key('delivery', member), 'owner', 'created_at', 'run'))
    if owner then
      redis.call('ZREM', key('deliveries', 'all'), listing(created_at, member))
      redis.call('ZREM', key('deliveries', 'of', owner), listing(created_at, member))
      table.insert(tickets, member .. '-' .. run)
    end
    redis.call('DEL', key('delivery', member), key('delivery-log', member))
    redis.call('ZREM', key('deliveries-due'), member)
  end
  redis.call('DEL', record)
  return { 'ok', 'tickets', cjson.encode(tickets) }
end

-- For the sweep: RQ has lost this run.
function verbs.replace(run)
  if get('state') ~= 'pending' or get('run') ~= run then
    return { 'over' }
  end
  run_anew()
  return reply('ok')
end

-- For the sweep: RQ still has this run, so look again later.
function verbs.wait(run)
  if get('state') ~= 'pending' or get('run') ~= run then
    return { 'over' }
  end
  due(LEASE)
  return reply('ok')
end

if verb ~= 'record' and redis.call('EXISTS', record) == 0 then
  redis.call('ZREM', key('deliveries-due'), id)
  return { 'missing' }
end
return verbs[verb](unpack(ARGV, 4))
