-- Claim: an account is there, or was changed by an administrator. Whatever else has its number ends.
-- KEYS  1 identity   2 families of the user   3 revocation log   4 grants
-- ARGV  1 user id    2 uid    3 when the account was made (ms)   4 keep log entries for (ms)
--       5 what the keys of the user's families begin with   6 absolute lifetime of sessions (ms)
-- reply { families that have ended }
local identity, index, log, grants = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local user_id, uid, since, keep_for = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local family_prefix, absolute = ARGV[5], tonumber(ARGV[6])

return claim(identity, index, log, grants, family_prefix, user_id, uid, since, redis_now(), keep_for, absolute)
