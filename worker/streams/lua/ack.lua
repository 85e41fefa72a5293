-- End a delivery, if it is still pending.
-- KEYS  1 the delivery's stream
-- ARGV  1 group  2 entry id
-- ->    1 ended  0 the lease was lost (or the delivery ended before)
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
