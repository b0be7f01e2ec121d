-- Confirm: Postgres was asked whose the number is that a session is of. A session of somebody else, or of nobody, ends.
-- KEYS  1 family hash   2 families of the user   3 revocation log   4 identity
-- ARGV  1 family id     2 user id    3 uid of the number's owner, or '' if there is none   4 when that account was made (ms)
--       5 keep log entries for (ms)  6 which restoring of Postgres was the last before it was asked   7 absolute lifetime (ms)
-- reply { 0 has ended before | 1 ended | 2 confirmed }
local family, index, log, identity = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local family_id, user_id, uid, since = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local keep_for, epoch, absolute = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])

local was = redis.call('HMGET', family, 'state', 'uid', 'created_at')
if was[1] ~= 'active' then return { 0 } end
if uid == '' or not is_of(uid, since, was[2], was[3]) then
  local why = uid == '' and 'disabled' or 'account_replaced'
  end_family(family, index, log, family_id, user_id, why, redis_now(), keep_for)
  return { 1 }
end
redis.call('HSET', family, 'uid', uid, 'epoch', epoch)
redis.call('SET', identity, uid, 'PX', absolute)
return { 2 }
