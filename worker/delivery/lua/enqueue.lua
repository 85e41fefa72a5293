-- Write a pending delivery, once for a task id and event, if the job is in the state it tells of.
-- KEYS  1 delivery (hash)  2 due (zset)  3 job record (hash)
-- ARGV  1 member of the zset  2 state the job must be in  3 when it is due  4 seconds it lives
--       5.. field, value, ...
-- ->    1 written  0 it was before (safe to repeat), or the job is not in that state
if redis.call('HGET', KEYS[3], 'state') ~= ARGV[2] or redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'life_s', ARGV[4], unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 1
