-- Revoke a family, whichever of its generations asks. Idempotent: a family that was revoked before is not logged again.
-- KEYS  1 family hash   2 families of the user   3 revocation log
-- ARGV  1 family id     2 user id    3 digest of the family's secret, or '' if the caller may end any family of the user
--       4 why           5 keep log entries for (ms)
-- reply { 0 unknown | 1 revoked | 2 was revoked before }
local family, index, log = KEYS[1], KEYS[2], KEYS[3]
local family_id, user_id, secret_digest, why, keep_for = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

-- Families of other users are in the same partition: the id alone proves nothing.
local was = redis.call('HMGET', family, 'user', 'state', 'secret_digest')
if was[1] ~= user_id or (secret_digest ~= '' and was[3] ~= secret_digest) then return { 0 } end
if was[2] == 'revoked' then return { 2 } end
end_family(family, index, log, family_id, user_id, why, redis_now(), keep_for)
return { 1 }
