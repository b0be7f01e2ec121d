-- Re-assert a revocation that Redis has forgotten in a roll-back (a fail-over to a replica that lacked it, a lost tail of
-- the append-only file). Any replica that remembers it may call this, and the first one does it.
-- KEYS  1 family hash   2 families of the user   3 revocation log
-- ARGV  1 family id     2 user id    3 why       4 of interest until (ms)
-- reply { 1 re-asserted | 0 not needed }
local family, index, log = KEYS[1], KEYS[2], KEYS[3]
local family_id, user_id, why, of_interest_until = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local now = redis_now()
if now >= of_interest_until then return { 0 } end
local state = redis.call('HGET', family, 'state')
if state == 'revoked' then return { 0 } end
end_family(family, index, log, family_id, user_id, why, now, of_interest_until - now)
-- A family that is gone altogether leaves only this mark, as long as it matters.
if not state then redis.call('PEXPIREAT', family, of_interest_until) end
return { 1 }
