-- Write progress, if the attempt still owns the job. Needs held.lua and books.lua.
-- KEYS  1 job record (hash)  2 channel of changes
-- ARGV  1 lease  2 consumer group  3 task id  4.. field, value, ...
-- ->    1 written  0 the job is another's, ended or gone
local record = redis.call('HMGET', KEYS[1], 'state', 'lease')
if record[1] ~= 'running' or record[2] ~= ARGV[1] or not held(ARGV[1], ARGV[2]) then return 0 end
local before = pages(KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
enter('', before, pages(KEYS[1]))
redis.call('PUBLISH', KEYS[2], ARGV[3])
return 1
