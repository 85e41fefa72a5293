-- Give one delivery back: to the front of its queue, or to the dead letters. Needs move.lua.
-- KEYS  1 the delivery's stream  2 front  3 dead (streams)
-- ARGV  1 group  2 entry id  3 1: count a failed attempt, 0: don't  4 most attempts  5 why
-- ->    {'gone'}  {'requeued' or 'dead', message, attempts that failed}
return move(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
