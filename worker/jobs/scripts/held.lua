-- Put before scripts that ask whether a delivery is still its worker's.
-- lease: '<entry id>@<stream>'. An entry is pending from its delivery until it is acknowledged or given
-- to another worker, which makes a new entry; so a pending id has one owner, and an id that is not pending
-- has none, for ever. XPENDING by id is O(log n). The stream's key comes from the lease, not from KEYS:
-- this service's keys live on one server, not on a cluster.
local function held(lease, group)
  local id, stream = string.match(lease or '', '^([%d%-]+)@(.+)$')
  if not id then return false end
  local reply = redis.pcall('XPENDING', stream, group, id, id, 1)
  return not reply['err'] and #reply == 1
end
