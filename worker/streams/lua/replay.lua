-- Put a dead letter back to the front of its queue, with its attempts uncounted.
-- XADD comes before XDEL: where it is refused, the dead letter stays.
-- KEYS  1 dead  2 front (streams)
-- ARGV  1 entry id in the dead-letter stream
-- ->    1 put back  0 there is no such entry (or another call was first)
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return 0 end
local entry = {}
for i = 1, #found[1][2], 2 do entry[found[1][2][i]] = found[1][2][i + 1] end
redis.call('XADD', KEYS[2], '*', 'm', entry.m, 'n', 0, 'r', 1)
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
