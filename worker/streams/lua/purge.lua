-- Delete entries that no worker has been given yet, oldest first.
-- KEYS  1 stream
-- ARGV  1 group  2 most entries to delete
-- ->    how many were deleted
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local first = '-'
for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local found = {}
  for i = 1, #row, 2 do found[row[i]] = row[i + 1] end
  if found.name == ARGV[1] then first = '(' .. found['last-delivered-id'] end
end
local deleted = 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', ARGV[2])) do
  deleted = deleted + redis.call('XDEL', KEYS[1], entry[1])
end
return deleted
