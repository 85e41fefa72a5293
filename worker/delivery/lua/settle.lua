-- Write what a try came to, unless the delivery was claimed again since.
-- KEYS  1 due (zset)  2 delivery (hash)
-- ARGV  1 member of the zset  2 number of the try  3 state  4 log  5 when it is due again; empty: it has ended
-- ->    1 written  0 another's by now, or gone
if redis.call('HGET', KEYS[2], 'tries') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'state', ARGV[3], 'log', ARGV[4])
if ARGV[5] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], 'url')
else
  redis.call('ZADD', KEYS[1], 'XX', ARGV[5], ARGV[1])
end
return 1
