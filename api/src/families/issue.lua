-- Issue a family: a log-in opens a session, whose first refresh token is generation 0. A user with too many sessions loses
-- those that were not used for longest.
-- KEYS  1 family hash   2 families of the user   3 revocation log   4 grants   5 identity   6 mark
-- ARGV  1 family id     2 user id          3 username        4 digest of the family's secret
--       5 do nothing from this moment on (ms)   6 refresh lifetime (ms)   7 absolute lifetime (ms)
--       8 client address   9 user agent
--       10 most sessions a user may have   11 keep log entries for (ms)   12 what the keys of the user's families begin with
--       13 version of the grants in Postgres   14 the rooms that they name, as a JSON array
--       15 identity of the user   16 when the account was made (ms)
-- reply { 1 issued, now (ms), expires at (ms), { families that were evicted }, rooms as a JSON array,
--         { families of whoever had the number before, which have ended } } | { 2 too late, now }
-- Keeps: a family without an entry in its user's list is never alive, and neither outlives the absolute limit.
local family, index, log, grants, identity, mark = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local family_id, user_id, username, secret_digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local too_late, lifetime, absolute = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local address, user_agent = ARGV[8], ARGV[9]
local most, keep_for, family_prefix = tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local grants_version, rooms, uid, since = ARGV[13], ARGV[14], ARGV[15], tonumber(ARGV[16])

local now = redis_now()
if now >= too_late then return { 2, now } end

-- Ends the families that were not used for longest, and names them; strikes off the list those that have expired.
local function make_room()
  local living = {}
  for _, id in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local was = redis.call('HMGET', family_prefix .. id, 'state', 'last_used_at')
    if was[1] == 'active' then
      living[#living + 1] = { id, tonumber(was[2]) }
    else
      redis.call('ZREM', index, id)
    end
  end
  table.sort(living, function(a, b) return a[2] < b[2] end)
  local evicted = {}
  for place = 1, #living + 1 - most do
    evicted[place] = living[place][1]
    end_family(family_prefix .. evicted[place], index, log, evicted[place], user_id, 'evicted', now, keep_for)
  end
  return evicted
end

local replaced = claim(identity, index, log, grants, family_prefix, user_id, uid, since, now, keep_for, absolute)
local limit = now + absolute
local expires = math.min(now + lifetime, limit)
redis.call('HSET', family, 'user', user_id, 'uid', uid, 'username', username, 'gen', 0, 'secret_digest', secret_digest,
  'state', 'active', 'created_at', now, 'last_used_at', now, 'expires_at', limit,
  'ip', address, 'user_agent', user_agent, 'access_until', now + keep_for,
  'epoch', redis.call('HGET', mark, 'epoch') or 0)
redis.call('PEXPIREAT', family, expires)
local evicted = make_room()
-- By the time at which it cannot live any longer: that never changes, so that a refresh need not touch the list.
redis.call('ZADD', index, limit, family_id)
redis.call('PEXPIREAT', index, redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2])
keep_grants(grants, grants_version, rooms, uid)
-- Which numbers are taken, for the time when Postgres is an older copy of itself.
if tonumber(user_id) > (tonumber(redis.call('HGET', mark, 'users')) or 0) then redis.call('HSET', mark, 'users', user_id) end
return { 1, now, expires, evicted, granted_rooms(grants), replaced }
