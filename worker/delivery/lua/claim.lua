-- Take a delivery that is due, for one try: until the lease is over, no other sweeper finds it due.
-- KEYS  1 due (zset)  2 delivery (hash)
-- ARGV  1 member of the zset  2 now  3 end of the lease
-- ->    the hash's fields and values, tries counted; empty: another was faster, or it is no more
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due or tonumber(due) > tonumber(ARGV[2]) then return {} end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return {}
end
redis.call('ZADD', KEYS[1], 'XX', ARGV[3], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'tries', 1)
return redis.call('HGETALL', KEYS[2])
