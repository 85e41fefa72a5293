-- Count a queue's entries. Costs the same however long the queue is: XINFO's own lag is not used, since it
-- is unknown once an entry was deleted before its delivery.
-- KEYS  1 dead  2.. streams that workers read
-- ARGV  1 group
-- ->    {in flight, dead, age in ms of the oldest waiting entry or -1, {waiting in each stream, ...}}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local waiting, in_flight, oldest = {}, 0, -1

local function groups_of(stream)
  local found = {}
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for i = 1, #row, 2 do group[row[i]] = row[i + 1] end
    found[group.name] = group
  end
  return found
end

for i = 2, #KEYS do
  waiting[i - 1] = 0
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local group = groups_of(KEYS[i])[ARGV[1]]
    local pending = group and group.pending or 0
    local first = group and '(' .. group['last-delivered-id'] or '-'
    in_flight = in_flight + pending
    waiting[i - 1] = math.max(0, redis.call('XLEN', KEYS[i]) - pending)
    local next_entry = redis.call('XRANGE', KEYS[i], first, '+', 'COUNT', 1)[1]
    if next_entry then
      oldest = math.max(oldest, now - tonumber(string.match(next_entry[1], '^%d+')))
    end
  end
end
return {in_flight, redis.call('XLEN', KEYS[1]), oldest, waiting}
