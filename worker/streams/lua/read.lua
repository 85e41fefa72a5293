-- Give one entry to a consumer: the oldest new one of the first stream that has any.
-- XREADGROUP's own COUNT is per stream, so one call over several streams would give several entries.
-- KEYS  1.. streams, most urgent first
-- ARGV  1 group  2 consumer
-- ->    {{stream, {{entry id, {field, value, ...}}}}}, the shape of XREADGROUP's reply  nil: nothing waits
for _, stream in ipairs(KEYS) do
  local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', stream, '>')
  if reply and reply['err'] then
    if not string.find(reply['err'], 'NOGROUP', 1, true) then return reply end
    -- From 0, not $: entries that were published before the first worker came are work, too.
    redis.call('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM')
    reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', stream, '>')
  end
  if reply and reply[1] and #reply[1][2] > 0 then return {{stream, reply[1][2]}} end
end
return false
