-- Reopen a rotation whose answer was lost between Redis and the replica: for a while the token that was traded gives the
-- same successor again, since the client was told 503 and never got it. Or say that it was no rotation, but a replay.
-- KEYS  1 family hash
-- ARGV  1 attempt       2 for how long (ms)
-- reply { 1 reopened | 0 nothing to reopen: it never happened, somebody has rotated since, or the family was ended }
--       { 2 replayed: it has ended the family, address from which that was last used }
local family = KEYS[1]
local attempt, for_how_long = ARGV[1], tonumber(ARGV[2])

local was = redis.call('HMGET', family, 'state', 'attempt', 'replayed_by', 'ip')
if was[1] == 'revoked' then
  return was[3] == attempt and { 2, was[4] } or { 0 }
end
if was[2] ~= attempt then return { 0 } end
local now = redis_now()
redis.call('HSET', family, 'reopened_until', now + for_how_long)
return { 1 }
