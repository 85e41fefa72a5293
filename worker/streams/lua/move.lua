-- Put before scripts that end a lease: move() makes a new entry of a pending one.
-- XADD comes before XACK and XDEL: a script that fails is not undone, and XADD can be refused (out of
-- memory, no permission, a stranger's key). Nothing has changed then, and the caller may try again.
-- One winner: whoever holds a stale lease, or sweeps late, finds nothing pending and changes nothing.
-- A new entry, not XCLAIM, so that the old id is dead for ever: a late owner can't renew it.
-- move(stream, front, dead, group, entry id, counted: 1 the attempt failed | 0 it never failed,
--      most attempts, why)
-- ->   {'gone'}  {'requeued' or 'dead', message, attempts that failed}
local function is_pending(stream, group, id)
  local reply = redis.pcall('XPENDING', stream, group, id, id, 1)
  if not reply['err'] then return #reply == 1 end
  if string.find(reply['err'], 'NOGROUP', 1, true) then return false end
  error(reply['err'])
end

local function move(stream, front, dead, group, id, counted, max_attempts, why)
  if not is_pending(stream, group, id) then return {'gone'} end
  local found = redis.call('XRANGE', stream, id, id)
  local outcome = {'gone'}
  if #found == 1 then
    local entry = {m = '', n = 0, r = 0}
    for i = 1, #found[1][2], 2 do entry[found[1][2][i]] = found[1][2][i + 1] end
    local attempts = tonumber(entry.n) + counted
    if counted == 1 and attempts >= max_attempts then
      redis.call('XADD', dead, '*', 'm', entry.m, 'n', attempts, 'why', why, 'from', id .. '@' .. stream)
      outcome = {'dead', entry.m, attempts}
    else
      redis.call('XADD', front, '*', 'm', entry.m, 'n', attempts, 'r', tonumber(entry.r) + 1)
      outcome = {'requeued', entry.m, attempts}
    end
  end
  redis.call('XACK', stream, group, id)
  redis.call('XDEL', stream, id)
  return outcome
end
