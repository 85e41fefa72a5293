-- End the leases of one queue that were not renewed in time. Needs move.lua. Safe to run at any time, from
-- any number of processes.
-- The guard: nothing is reclaimed until sweeps have come without a gap for a whole lease. A gap means that
-- the server (or every sweeper) was away, so that workers could not renew; each gets a lease's time first.
-- KEYS  1 guard (hash: last and since, of sweeps; requeued and dead, how many leases ever ended so)  2 dead  3 front  4.. the other streams that workers read
-- ARGV  1 group  2 lease in ms  3 longest gap between sweeps in ms  4 most entries per stream
--       5 most attempts  6 idle ms after which a consumer without leases is forgotten
-- ->    {{'requeued' or 'dead', entry id, consumer, idle ms, attempts that failed, message}, ...}
local group, lease_ms = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function guarded()
  local guard = redis.call('HMGET', KEYS[1], 'last', 'since')
  local since = tonumber(guard[2] or now)
  if not guard[1] or now - tonumber(guard[1]) > tonumber(ARGV[3]) then since = now end
  redis.call('HSET', KEYS[1], 'last', string.format('%.0f', now), 'since', string.format('%.0f', since))
  return now - since < lease_ms
end

-- DELCONSUMER throws a consumer's pending entries away, so only one that has none may go.
local function forget_consumers(stream)
  for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local consumer = {}
    for i = 1, #row, 2 do consumer[row[i]] = row[i + 1] end
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[6]) then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer.name)
    end
  end
end

local function reclaim(stream, out)
  -- XPENDING, not XAUTOCLAIM: it names the silent consumer, and looks at all that is pending.
  local pending = redis.pcall('XPENDING', stream, group, 'IDLE', lease_ms, '-', '+', ARGV[4])
  if pending['err'] then return end
  for _, row in ipairs(pending) do
    local why = 'lease expired: ' .. row[2]
    local moved = move(stream, KEYS[3], KEYS[2], group, row[1], 1, tonumber(ARGV[5]), why)
    if moved[1] ~= 'gone' then
      redis.call('HINCRBY', KEYS[1], moved[1], 1)
      table.insert(out, {moved[1], row[1], row[2], row[3], moved[3], moved[2]})
    end
  end
  forget_consumers(stream)
end

local out = {}
if guarded() then return out end
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then reclaim(KEYS[i], out) end
end
return out
