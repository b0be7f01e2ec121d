-- Revoke all families of a user but one.
-- KEYS  1 families of the user   2 revocation log
-- ARGV  1 user id   2 family to spare, or ''   3 why   4 keep log entries for (ms)   5 what the keys of families begin with
-- reply { how many were revoked }
-- The families' own keys are known only here; they carry the same tag as KEYS, and so are in the same slot.
local index, log = KEYS[1], KEYS[2]
local user_id, spared, why, keep_for, family_prefix = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

local now, revoked = redis_now(), 0
for _, family_id in ipairs(redis.call('ZRANGE', index, 0, -1)) do
  local family = family_prefix .. family_id
  if family_id ~= spared and redis.call('HGET', family, 'state') == 'active' then
    end_family(family, index, log, family_id, user_id, why, now, keep_for)
    revoked = revoked + 1
  end
end
return { revoked }
