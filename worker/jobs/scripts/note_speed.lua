-- Learn from a finished job how fast a worker is: a moving average in which each job counts a tenth less
-- than the one after it.
-- KEYS  1 load (hash)
-- ARGV  1 bytes of its recording  2 seconds that a worker took for it
for name, value in pairs({done_bytes = ARGV[1], done_seconds = ARGV[2]}) do
  local known = tonumber(redis.call('HGET', KEYS[1], name) or 0)
  redis.call('HSET', KEYS[1], name, tostring(known * 0.9 + tonumber(value)))
end
