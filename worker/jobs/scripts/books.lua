-- Put before scripts that change a job: the books of its owner, which follow from the record alone.
--   jobs:of:<owner>:<state>  zset: the owner's jobs in that state, by time of acceptance
--   jobs:stored              hash: owner to bytes that the owner's jobs hold in the cache
--   jobs:audio               hash: owner to milliseconds of audio transcribed, jobs that are gone included
-- The keys come from the record, not from KEYS: this service's keys live on one server, not on a cluster.
local function pages(job)
  local r = redis.call('HMGET', job, 'state', 'owner', 'created_at', 'stored_bytes', 'duration_s')
  return {state = r[1], owner = r[2], created_at = r[3], stored = tonumber(r[4] or '') or 0, duration_s = r[5]}
end

-- Bring the books from what the record was to what it is: both as pages() saw it; no state means no record.
local function enter(task_id, before, after)
  local owner = after.owner or before.owner
  if not owner then return end
  if before.state ~= after.state then
    if before.state then redis.call('ZREM', 'jobs:of:' .. owner .. ':' .. before.state, task_id) end
    if after.state then redis.call('ZADD', 'jobs:of:' .. owner .. ':' .. after.state, after.created_at, task_id) end
    if after.state == 'completed' then
      redis.call('HINCRBY', 'jobs:audio', owner, string.format('%.0f', (tonumber(after.duration_s or '') or 0) * 1000))
    end
  end
  redis.call('HINCRBY', 'jobs:stored', owner, string.format('%.0f', after.stored - before.stored))
end
