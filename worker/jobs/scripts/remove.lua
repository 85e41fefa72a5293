-- Forget a job and leave a tombstone.
-- KEYS  1 job record (hash)  2 waiting index  3 running index  4 ended index (zsets)  5 load (hash)
--       6 tombstone (string)
-- ARGV  1 task id  2 tombstone's text: 'released' or 'expired'  3 its life in seconds
--       4 '' or a time: remove only if the job has ended and expires by then
-- ->    the fields and values of the record as they were; empty: nothing was removed
if ARGV[4] ~= '' then
  local expires = redis.call('ZSCORE', KEYS[4], ARGV[1])
  if not expires or tonumber(expires) > tonumber(ARGV[4]) then return {} end
end
local record = redis.call('HGETALL', KEYS[1])
local waits = redis.call('HMGET', KEYS[1], 'state', 'size_bytes')
if waits[1] == 'waiting' then redis.call('HINCRBY', KEYS[5], 'waiting_bytes', string.format('%.0f', 0 - (waits[2] or 0))) end
redis.call('DEL', KEYS[1])
for _, index in ipairs({KEYS[2], KEYS[3], KEYS[4]}) do redis.call('ZREM', index, ARGV[1]) end
if #record > 0 then redis.call('SET', KEYS[6], ARGV[2], 'EX', ARGV[3]) end
return record
