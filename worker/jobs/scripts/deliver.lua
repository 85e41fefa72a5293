-- Note that a completed job's result is in its client's bucket, and no longer here. Needs books.lua.
-- KEYS  1 job record (hash)  2 channel of changes
-- ARGV  1 task id  2 name of the result that was delivered  3.. field, value, ...
-- ->    1 noted  0 the job is gone, or has no such result
local record = redis.call('HMGET', KEYS[1], 'state', 'result')
if record[1] ~= 'completed' or record[2] ~= ARGV[2] then return 0 end
local before = pages(KEYS[1])
redis.call('HSET', KEYS[1], 'result', '', 'stored_bytes', '0', unpack(ARGV, 3))
enter(ARGV[1], before, pages(KEYS[1]))
redis.call('PUBLISH', KEYS[2], ARGV[1])
return 1
