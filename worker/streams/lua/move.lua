-- Put before scripts that end a lease: move() makes a new entry of a pending one.
-- XACK comes first and has one winner: whoever holds a stale lease, or sweeps late, gets 0 and changes
-- nothing. A new entry, not XCLAIM, so that the old id is dead for ever: a late owner can't renew it.
-- move(stream, front, dead, group, entry id, counted: 1 the attempt failed | 0 it never failed,
--      most attempts, why)
-- ->   {'gone'}  {'requeued' or 'dead', message, attempts that failed}
local function move(stream, front, dead, group, id, counted, max_attempts, why)
  if redis.call('XACK', stream, group, id) == 0 then return {'gone'} end
  local found = redis.call('XRANGE', stream, id, id)
  if #found == 0 then return {'gone'} end
  redis.call('XDEL', stream, id)
  local entry = {m = '', n = 0, r = 0}
  for i = 1, #found[1][2], 2 do entry[found[1][2][i]] = found[1][2][i + 1] end
  local attempts = tonumber(entry.n) + counted
  if counted == 1 and attempts >= max_attempts then
    redis.call('XADD', dead, '*', 'm', entry.m, 'n', attempts, 'why', why, 'from', id .. '@' .. stream)
    return {'dead', entry.m, attempts}
  end
  redis.call('XADD', front, '*', 'm', entry.m, 'n', attempts, 'r', tonumber(entry.r) + 1)
  return {'requeued', entry.m, attempts}
end
