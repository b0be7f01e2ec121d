-- Re-assert a revocation that Redis has forgotten in a roll-back (a fail-over to a replica that lacked it, a lost tail of
-- the append-only file). Any replica that remembers it may call this; the first one does it, and the others find it done.
-- KEYS  1 family hash   2 families of the user   3 revocation log
-- ARGV  1 family id     2 user id    3 why       4 of interest until (ms)    5 where it stood in the log
-- reply { 1 re-asserted | 0 not needed }
-- Keeps: what is still marked and logged is left alone.
local family, index, log = KEYS[1], KEYS[2], KEYS[3]
local family_id, user_id, why, of_interest_until, stood_at = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

local now = redis_now()
if now >= of_interest_until then return { 0 } end

local function is_logged(id)
  return id and #redis.call('XRANGE', log, id, id) > 0
end
local was = redis.call('HMGET', family, 'state', 'revoked_id')
if was[1] ~= 'active' and (is_logged(stood_at) or is_logged(was[2])) then return { 0 } end
-- While it was forgotten, access tokens may have been issued that outlive the entry.
if was[1] == 'active' then of_interest_until = math.max(of_interest_until, access_until(family, now, 0)) end
log_end(family, index, log, family_id, user_id, why, now, of_interest_until)
-- A family that is gone altogether leaves only this mark, as long as it matters.
if not was[1] then redis.call('PEXPIREAT', family, of_interest_until) end
return { 1 }
