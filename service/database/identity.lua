-- Refuses to do anything on a Redis that is not the database which is expected: goes before a script whose arguments
-- are a verb, the namespace and more, and takes an argument before these away, `id:epoch` or nothing for any database.
-- Answers {'elsewhere'} where the identity is another or not there, or its epoch an earlier one
-- (service/database/identity.py).

local expected = table.remove(ARGV, 1)
if expected ~= '' then
  local id, epoch = string.match(expected, '^(%x+):(%d+)$')
  local found = redis.call('HMGET', ARGV[2] .. ':database', 'id', 'epoch')
  if found[1] ~= id or tonumber(found[2] or 0) < tonumber(epoch) then
    return {'elsewhere'}
  end
end

