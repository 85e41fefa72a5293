-- Read a job for one owner. Another owner's job answers as one that does not exist, in the same words.
-- KEYS  1 job record (hash)
-- ARGV  1 owner
-- ->    the fields and values of the record; empty: the owner has no such job
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return {} end
return redis.call('HGETALL', KEYS[1])
