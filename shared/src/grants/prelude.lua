-- Prelude of every script that deals with the copy of a user's grants: hash { version, rooms: a JSON array, uid: whose }.
-- An empty copy has to outlive every log-in that may have read the grants before they were taken away.
local EMPTY_KEPT_FOR = 24 * 60 * 60 * 1000

-- Keep these grants, unless the copy has newer ones of the same owner of the user's number (uid, or '' if it is not known).
-- Users who never had any have no copy.
local function keep_grants(grants, version, rooms, uid)
  local was = redis.call('HMGET', grants, 'version', 'uid')
  local held = tonumber(was[1]) or 1
  if uid ~= '' and was[2] and was[2] ~= uid then
    redis.call('DEL', grants)
    held = 1
  end
  if tonumber(version) < held then return end -- also 0, which is no change at all
  redis.call('HSET', grants, 'version', version, 'rooms', rooms)
  if uid ~= '' then redis.call('HSET', grants, 'uid', uid) end
  if rooms == '[]' then
    redis.call('PEXPIRE', grants, EMPTY_KEPT_FOR)
  else
    redis.call('PERSIST', grants)
  end
end

-- The rooms that the copy grants; without a copy none.
local function granted_rooms(grants)
  return redis.call('HGET', grants, 'rooms') or '[]'
end
