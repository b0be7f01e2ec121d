-- Issue a socket ticket.
-- KEYS  1 ticket
-- ARGV  1 for whom it opens a socket   2 lifetime (ms)
-- reply { 1 issued }
local ticket = KEYS[1]
local bearer, lifetime = ARGV[1], ARGV[2]

redis.call('SET', ticket, bearer, 'PX', lifetime)
return { 1 }
