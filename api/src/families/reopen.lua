-- Reopen a rotation whose answer was lost between Redis and the replica: for a while the token that was traded gives the
-- same successor again, since the client was told 503 and never got it.
-- KEYS  1 family hash
-- ARGV  1 attempt       2 for how long (ms)
-- reply { 1 reopened | 0 nothing to reopen: it never happened, or somebody has rotated since }
local family = KEYS[1]
local attempt, for_how_long = ARGV[1], tonumber(ARGV[2])

if redis.call('HGET', family, 'attempt') ~= attempt then return { 0 } end
local now = redis_now()
redis.call('HSET', family, 'reopened_until', now + for_how_long)
return { 1 }
