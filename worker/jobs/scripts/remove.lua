-- Forget a job, its webhooks included, and leave a tombstone. Needs books.lua.
-- KEYS  1 job record (hash)  2 waiting index  3 running index  4 ended index (zsets)  5 load (hash)
--       6 tombstone (string: the owner, to whom alone the job is gone and not unknown)
--       7 due webhooks (zset)  8 and 9 webhooks of its ends (hashes)  10 channel of changes
-- ARGV  1 task id  2 tombstone's life in seconds
--       3 '' or a time: remove only if the job has ended and expires by then
--       4 '' or an owner: remove only a job of this owner
-- ->    the fields and values of the record as they were; empty: nothing was removed
if ARGV[3] ~= '' then
  local expires = redis.call('ZSCORE', KEYS[4], ARGV[1])
  if not expires or tonumber(expires) > tonumber(ARGV[3]) then return {} end
end
local before = pages(KEYS[1])
if ARGV[4] ~= '' and before.owner ~= ARGV[4] then return {} end

local record = redis.call('HGETALL', KEYS[1])
local fields = redis.call('HMGET', KEYS[1], 'size_bytes', 'idempotency')
if before.state == 'waiting' then redis.call('HINCRBY', KEYS[5], 'waiting_bytes', string.format('%.0f', 0 - (fields[1] or 0))) end
if fields[2] and fields[2] ~= '' then redis.call('DEL', fields[2]) end
redis.call('DEL', KEYS[1], KEYS[8], KEYS[9])
redis.call('ZREM', KEYS[7], ARGV[1] .. ':job.completed', ARGV[1] .. ':job.failed')
for _, index in ipairs({KEYS[2], KEYS[3], KEYS[4]}) do redis.call('ZREM', index, ARGV[1]) end
enter(ARGV[1], before, {stored = 0})
if #record > 0 then redis.call('SET', KEYS[6], before.owner, 'EX', ARGV[2]) end
if ARGV[3] ~= '' then redis.call('HINCRBY', KEYS[5], 'expired', 1) end
redis.call('PUBLISH', KEYS[10], ARGV[1])
return record
