-- Accept a job: from here on it ends in one result or one error. Needs books.lua.
-- KEYS  1 job record (hash)  2 waiting index (zset)  3 load (hash)
--       4 idempotency key (hash: task, fingerprint), or '' where the client gave none
-- ARGV  1 task id  2 most jobs that may wait  3 score in the waiting index  4 size in bytes
--       5 owner  6 most jobs of the owner that may wait  7 most bytes that the owner's jobs may hold
--       (of both, 0: as many as there are)  8 fingerprint of the request  9.. field, value, ...
-- ->    {verdict, task id}: 'accepted' (or it was before, by this key or under this id: safe to repeat)
--       | 'key_reused' (by another request) | 'queue_full' | 'owner_waits' | 'owner_stores'
if KEYS[4] ~= '' then
  local known = redis.call('HMGET', KEYS[4], 'task', 'fingerprint')
  if known[1] then return {known[2] == ARGV[8] and 'accepted' or 'key_reused', known[1]} end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'accepted', ARGV[1]} end

local most_waiting, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return {'queue_full', ''} end
if most_waiting > 0 and redis.call('ZCARD', 'jobs:of:' .. ARGV[5] .. ':waiting') >= most_waiting then
  return {'owner_waits', ''}
end
local stored = tonumber(redis.call('HGET', 'jobs:stored', ARGV[5]) or 0)
if most_bytes > 0 and stored + tonumber(ARGV[4]) > most_bytes then return {'owner_stores', ''} end

redis.call('HSET', KEYS[1], unpack(ARGV, 9))
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('HINCRBY', KEYS[3], 'waiting_bytes', ARGV[4])
if KEYS[4] ~= '' then redis.call('HSET', KEYS[4], 'task', ARGV[1], 'fingerprint', ARGV[8]) end
enter(ARGV[1], {stored = 0}, pages(KEYS[1]))
return {'accepted', ARGV[1]}
