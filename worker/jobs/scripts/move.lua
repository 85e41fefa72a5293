-- Move a job to another state, if the table of moves and the fence allow it. Needs held.lua and books.lua.
-- A job that ends leaves its webhook, where it has one, in the same step: no end is without its news.
-- KEYS  1 job record (hash)  2 waiting index  3 running index  4 ended index (zsets)  5 load (hash)
--       6 due webhooks (zset)  7 webhook of this state (hash)  8 channel of changes
-- ARGV  1 task id  2 target state  3 states it may come from, each followed by ','
--       4 fence: 'hold'  the recorded lease must be ARGV[5], and held: the attempt that owns the job
--                'take'  ARGV[5] must be held, and the recorded lease be another's that is no longer held
--                'lost'  the recorded lease must not be held: nobody owns the job
--                'none'
--       5 lease  6 consumer group  7 score in the target's index
--       8 newest format of a record that the caller can work by  9.. field, value, ...
-- ->    'moved' | 'gone' (no record) | 'ended' (final state) | 'illegal' | 'lost' (the fence)
--       | 'duplicate' (take: another delivery of this job is being worked on)
--       | 'newer' (take: the job was accepted by a newer release than the caller's)
local record = redis.call('HMGET', KEYS[1], 'state', 'lease', 'size_bytes', 'result', 'webhook_url', 'format')
local state, owner, size, result, url = record[1], record[2], record[3] or 0, record[4] or '', record[5] or ''
if not state then return 'gone' end
if state == 'completed' or state == 'failed' then return 'ended' end
if not string.find(ARGV[3], state .. ',', 1, true) then return 'illegal' end

local fence, lease, group = ARGV[4], ARGV[5], ARGV[6]
local completes = ARGV[2] == 'completed'
if completes and state == 'waiting' and fence ~= 'lost' then return 'illegal' end
if completes and fence == 'lost' and result == '' then return 'illegal' end
if fence == 'hold' and (owner ~= lease or not held(lease, group)) then return 'lost' end
if fence == 'take' then
  if not held(lease, group) then return 'lost' end
  if state == 'running' and owner ~= lease and held(owner, group) then return 'duplicate' end
  if tonumber(record[6] or 1) > tonumber(ARGV[8]) then return 'newer' end
end
if fence == 'lost' and owner and held(owner, group) then return 'lost' end

if state == 'waiting' then redis.call('HINCRBY', KEYS[5], 'waiting_bytes', string.format('%.0f', 0 - size)) end
if ARGV[2] == 'waiting' then redis.call('HINCRBY', KEYS[5], 'waiting_bytes', size) end
local before = pages(KEYS[1])
redis.call('HSET', KEYS[1], 'state', ARGV[2], unpack(ARGV, 9))
enter(ARGV[1], before, pages(KEYS[1]))
for _, index in ipairs({KEYS[2], KEYS[3], KEYS[4]}) do redis.call('ZREM', index, ARGV[1]) end
local target = {waiting = KEYS[2], running = KEYS[3], completed = KEYS[4], failed = KEYS[4]}
redis.call('ZADD', target[ARGV[2]], ARGV[7], ARGV[1])

if url ~= '' and (completes or ARGV[2] == 'failed') then
  local ended_at = redis.call('HGET', KEYS[1], 'ended_at')
  redis.call('HSET', KEYS[7], 'state', 'pending', 'tries', '0', 'url', url, 'ended_at', ended_at, 'log', '[]')
  redis.call('ZADD', KEYS[6], ended_at, ARGV[1] .. ':job.' .. ARGV[2])
end
redis.call('PUBLISH', KEYS[8], ARGV[1])
return 'moved'
