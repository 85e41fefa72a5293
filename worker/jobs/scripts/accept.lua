-- Accept a job: from here on it ends in one result or one error.
-- KEYS  1 job record (hash)  2 waiting index (zset)  3 load (hash)
-- ARGV  1 task id  2 most jobs that may wait  3 score in the waiting index  4 size in bytes
--       5.. field, value, ...
-- ->    1 accepted (or it was before: safe to repeat)  0 too many jobs wait
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('HINCRBY', KEYS[3], 'waiting_bytes', ARGV[4])
return 1
