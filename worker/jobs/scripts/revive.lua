-- Let a job that was given up wait again, as if never tried: an operator's retry of a dead letter.
-- Needs books.lua.
-- KEYS  1 job record (hash)  2 waiting index  3 ended index (zsets)  4 load (hash)
--       5 due webhooks (zset)  6 webhook of its failure (hash)  7 channel of changes
-- ARGV  1 task id  2 error code of jobs that were given up  3 score in the waiting index
-- ->    1 it waits (or did before: safe to repeat)  0 no such job, or it ended otherwise
local record = redis.call('HMGET', KEYS[1], 'state', 'error_code', 'size_bytes')
if record[1] == 'waiting' then return 1 end
if record[1] ~= 'failed' or record[2] ~= ARGV[2] then return 0 end
local before = pages(KEYS[1])
redis.call('HSET', KEYS[1], 'state', 'waiting', 'attempt', '0')
redis.call('HDEL', KEYS[1], 'error_code', 'error_message', 'error_step', 'ended_at', 'expires_at', 'lease')
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
enter(ARGV[1], before, pages(KEYS[1]))
redis.call('HINCRBY', KEYS[4], 'waiting_bytes', record[3] or 0)
redis.call('ZREM', KEYS[5], ARGV[1] .. ':job.failed')
redis.call('DEL', KEYS[6])
redis.call('PUBLISH', KEYS[7], ARGV[1])
return 1
