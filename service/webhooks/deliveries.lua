-- The transitions of a webhook delivery, each atomic.
--
-- KEYS[1]: the delivery's hash. ARGV: verb, namespace, delivery id, then the verb's own arguments.
-- `forget` is of a job: KEYS[1] is the set of its deliveries, and the id is the job's.
-- Replies: {'ok' | 'exists', field, value, ...}, {'later', 'wait', seconds} when the receiver is left alone for a
-- while or an earlier event of the job comes first, {'over'} when the run is not the live one or nothing is pending,
-- {'line'} when its owner has as many tries at work as may be, so that it waits in the owner's line, or {'missing'}.
--
-- The events of one job reach its receiver in the order of its attempts: a delivery waits while one of an earlier
-- attempt is pending, and one whose later event may have been seen is superseded.
--
-- An owner has at most AT_ONCE places: one is taken by a try that RQ has or a process makes, and given back when the
-- try is over. Whatever else of the owner's is due waits in a line of its own, so that RQ's queue has a few tries of
-- each owner, in turns, however many one of them has due.

local record = KEYS[1]
local verb, namespace, id = ARGV[1], ARGV[2], ARGV[3]

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6

local KEPT = 40 * 86400 -- seconds a delivery is kept after it was recorded or driven again
local LEASE = 60 -- seconds a try may take before the sweep looks for it
local TRIES_LOGGED = 100
local SHORTEST_REST = 30 -- seconds a host that did not answer is left alone; doubles each time
local LONGEST_REST = 300
local AT_ONCE = 2 -- tries of one owner that may be at work or in RQ's queue
local LONGEST_LINE = 600 -- seconds until a delivery in line is looked at, should nobody have handed it a place
local HEARD = 40 * 86400 -- seconds for which a receiver that answered counts as one that answers
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
local function due(seconds, member)
  redis.call('ZADD', key('deliveries-due'), string.format('%.3f', now + seconds), member or id)
end

local function closed()
  return key('webhook-closed', get('endpoint'))
end

-- A host that does not answer costs each try its whole time-out. While it rests, the other events of the same owner for
-- it are put off without being tried, so that it holds up nobody else's. It is known by its name, as the URL has it,
-- and by the address that was connected to, whatever names lead there.
local function resting(host)
  return key('webhook-resting', host)
end

local function rest(host)
  local silences = key('webhook-silences', host)
  local count = redis.call('INCR', silences)
  local seconds = math.min(LONGEST_REST, SHORTEST_REST * 2 ^ math.min(count - 1, 10))
  redis.call('EXPIRE', silences, 2 * LONGEST_REST)
  redis.call('SET', resting(host), count, 'EX', string.format('%d', seconds))
end

local function wake(host)
  redis.call('DEL', resting(host), key('webhook-silences', host))
end

-- Of the delivery: the name in its URL, and the address that its last try connected to, where that is another.
local function hosts()
  local name, address = get('host'), get('address')
  return { name, address and address ~= name and address or nil }
end

local function at_work(owner)
  return key('webhook-at-work', owner)
end

local function line(owner)
  return key('webhook-line', owner)
end

-- Whether an owner has a place left; those of processes that died are over after a lease.
local function has_place(owner)
  redis.call('ZREMRANGEBYSCORE', at_work(owner), '-inf', now)
  return redis.call('ZCARD', at_work(owner)) < AT_ONCE
end

local function take_place(owner, member)
  redis.call('ZADD', at_work(owner), now + LEASE, member)
  redis.call('EXPIRE', at_work(owner), LEASE)
end

-- Whoever goes first in line is looked at as soon as the places of processes that died are over; nobody else may come
-- to hand theirs on.
local function watch(owner)
  for _, member in ipairs(redis.call('ZRANGE', line(owner), 0, AT_ONCE - 1)) do
    due(LEASE, member)
  end
end

-- Have the delivery keep its place or take one; else it waits in line, and the sweep sees that it is not forgotten.
local function admitted()
  local owner = get('owner')
  if redis.call('ZSCORE', at_work(owner), id) or has_place(owner) then
    take_place(owner, id)
    redis.call('ZREM', line(owner), id)
    return true
  end
  redis.call('ZADD', line(owner), 'NX', now, id)
  redis.call('EXPIRE', line(owner), KEPT)
  redis.call('HDEL', record, 'next_at')
  due(LONGEST_LINE)
  watch(owner)
  return false
end

-- Try again in so many seconds, with nothing spent.
local function put_off(seconds)
  set('next_at', string.format('%.3f', now + seconds))
  due(seconds + LEASE)
  return { 'later', 'wait', tostring(seconds), 'owner', get('owner') }
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

-- Whether RQ may have the delivery's present run now.
function verbs.offer()
  if get('state') ~= 'pending' then
    return { 'over' }
  end
  return admitted() and reply('ok') or { 'line' }
end

-- The owner's try is over, however it ended: give its place back, and hand it to those who waited longest. Answers with
-- the ids and runs that RQ is to have now.
function verbs.leave(owner)
  redis.call('ZREM', at_work(owner), id)
  local found = {}
  while has_place(owner) do
    local first = redis.call('ZRANGE', line(owner), 0, 0)[1]
    if not first then
      break
    end
    redis.call('ZREM', line(owner), first)
    if member_get(first, 'state') == 'pending' then
      take_place(owner, first)
      due(LEASE, first)
      table.insert(found, { first, member_get(first, 'run') })
    end
  end
  watch(owner)
  return { 'ok', 'next', cjson.encode(found) }
end

-- A try that begins is spent, so that one which kills its process every time comes to an end too.
function verbs.begin(run, most)
  if get('run') ~= run then
    return { 'over' } -- the place is the live run's
  end
  local over = { 'over', 'owner', get('owner') }
  if get('state') ~= 'pending' then
    return over
  end
  if redis.call('EXISTS', closed()) == 1 then
    finish('disabled')
    return over
  end
  if overtaken() then
    finish('superseded')
    return over
  end
  local first = earlier()[1]
  if first then
    local expected = tonumber(member_get(first, 'next_at') or now + LEASE)
    local wait = math.ceil(math.max(1, math.min(LONGEST_TURN, expected - now + 1)))
    set('next_at', string.format('%.3f', now + wait))
    due(wait + LEASE)
    return { 'later', 'wait', tostring(wait), 'owner', get('owner') }
  end
  local left = redis.call('TTL', resting(get('host')))
  if left > 0 then
    return put_off(left)
  end
  if not admitted() then
    return { 'line' }
  end
  if redis.call('HINCRBY', record, 'spent', 1) > tonumber(most) then
    finish('failed')
    return over
  end
  set('begun', (tonumber(get('begun') or 0)) + 1)
  redis.call('HDEL', record, 'next_at')
  due(LEASE)
  local answer = reply('ok')
  table.insert(answer, 'heard')
  table.insert(answer, tostring(redis.call('EXISTS', key('webhook-heard', get('host')))))
  return answer
end

-- For a try that has begun: its host's name has led to `host`, an address, and it is about to connect. The try is not
-- spent where that one rests.
function verbs.connect(run, host)
  local left = redis.call('TTL', resting(host))
  if left <= 0 or get('run') ~= run or get('state') ~= 'pending' then
    return { 'ok' }
  end
  redis.call('HINCRBY', record, 'spent', -1)
  if redis.call('HINCRBY', record, 'begun', -1) == 0 then
    redis.call('HDEL', record, 'begun') -- nothing of it has been sent, so nothing of it was seen
  end
  return put_off(left)
end

-- What a try came to. It is logged even when the delivery was driven again meanwhile, which then stands.
-- host: the address connected to, or nothing.
function verbs.settle(run, state, wait, entry, answered, host)
  redis.call('RPUSH', key('delivery-log', id), entry)
  redis.call('LTRIM', key('delivery-log', id), -TRIES_LOGGED, -1)
  redis.call('HINCRBY', record, 'tries', 1)
  counting.count(key('counters'), 'webhook_deliveries_total{result="' .. state .. '"}')
  keep()
  if host ~= '' then
    set('address', host)
  end
  for _, name in ipairs({ get('host'), host ~= '' and host ~= get('host') and host or nil }) do
    if answered == 'yes' then
      wake(name)
      redis.call('SET', key('webhook-heard', name), now, 'EX', HEARD)
    else
      rest(name)
    end
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
  for _, name in ipairs(hosts()) do
    wake(name)
  end
  redis.call('HDEL', record, 'next_at')
  set('spent', 0)
  run_anew()
  keep()
  return reply('ok')
end

-- The job was deleted: `id` is the job's, and the record its set of deliveries. Answers with what RQ may have of them.
function verbs.forget()
  local tickets, theirs = {}, ''
  for _, member in ipairs(redis.call('ZRANGE', record, 0, -1)) do
    local owner, created_at, run = unpack(redis.call('HMGET', key('delivery', member), 'owner', 'created_at', 'run'))
    if owner then
      redis.call('ZREM', key('deliveries', 'all'), listing(created_at, member))
      redis.call('ZREM', key('deliveries', 'of', owner), listing(created_at, member))
      table.insert(tickets, member .. '-' .. run)
    end
    if owner then
      theirs = owner
      redis.call('ZREM', line(owner), member)
      redis.call('ZREM', at_work(owner), member)
    end
    redis.call('DEL', key('delivery', member), key('delivery-log', member))
    redis.call('ZREM', key('deliveries-due'), member)
  end
  redis.call('DEL', record)
  return { 'ok', 'tickets', cjson.encode(tickets), 'owner', theirs }
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

if verb ~= 'record' and verb ~= 'leave' and redis.call('EXISTS', record) == 0 then
  redis.call('ZREM', key('deliveries-due'), id)
  return { 'missing' }
end
return verbs[verb](unpack(ARGV, 4))
