-- Prelude of every script that deals with the copy of a user's grants: hash { version, rooms: a JSON array }.
-- An empty copy has to outlive every log-in that may have read the grants before they were taken away.
local EMPTY_KEPT_FOR = 24 * 60 * 60 * 1000

-- Keep these grants, unless the copy has newer ones. Users who never had any have no copy.
local function keep_grants(grants, version, rooms)
  local held = tonumber(redis.call('HGET', grants, 'version')) or 1
  if tonumber(version) < held then return end -- also 0, which is no change at all
  redis.call('HSET', grants, 'version', version, 'rooms', rooms)
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
