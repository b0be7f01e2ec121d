-- Prelude of the scripts that know from Postgres whose a number is.
-- since (ms) is when that account was made, by Postgres's clock: what is older by more than clocks differ is not its own.
local CLOCKS_DIFFER = 60000

-- Whether a session is of the owner `uid` of its user's number. One of version 0.1.0 does not say.
local function is_of(uid, since, session_uid, created_at)
  if session_uid then return session_uid == uid end
  return tonumber(created_at) >= since - CLOCKS_DIFFER
end

-- The number belongs to `uid`: end the sessions of whoever had it before, forget what was granted to them, and have the
-- other sessions say whose they are. Returns the sessions that have ended.
local function claim(identity, index, log, grants, family_prefix, user_id, uid, since, now, keep_for, absolute)
  local others, ended = (redis.call('GET', identity) or uid) ~= uid, {}
  for _, id in ipairs(redis.call('ZRANGE', index, 0, -1)) do
    local family = family_prefix .. id
    local was = redis.call('HMGET', family, 'state', 'uid', 'created_at')
    if was[1] == 'active' then
      if is_of(uid, since, was[2], was[3]) then
        redis.call('HSET', family, 'uid', uid)
      else
        ended[#ended + 1] = id
        end_family(family, index, log, id, user_id, 'account_replaced', now, keep_for)
      end
    end
  end
  -- Grants that do not say whose they are: those of an account that was made just now are yet to be written.
  local is_new = since > now - CLOCKS_DIFFER
  if (others or is_new or #ended > 0) and redis.call('HGET', grants, 'uid') ~= uid then redis.call('DEL', grants) end
  redis.call('SET', identity, uid, 'PX', math.max(absolute, redis.call('PTTL', index)))
  return ended
end
