-- Prelude of every script over families: what more than one of them does.

-- Redis's clock, in milliseconds since 1970. No replica's clock is ever compared with another's.
local function redis_now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A living family stands in its user's list until it expires, and the list goes with its last family.
local function list_family(index, family_id, expires)
  redis.call('ZADD', index, expires, family_id)
  redis.call('PEXPIREAT', index, redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2])
end

-- End a family: mark it, take it off its user's list, log it, announce it. The log is the truth and the channel of the
-- same name is for speed; both are written in the script that ends the family, so that none ever ends unheard.
-- keep_for (ms): as long as an access token of the family could still be valid.
local function end_family(family, index, log, family_id, user_id, why, now, keep_for)
  redis.call('HSET', family, 'state', 'revoked', 'revoked_at', now, 'revoked_why', why)
  redis.call('ZREM', index, family_id)
  local expires = now + keep_for
  local id = redis.call('XADD', log, 'MINID', '~', now - keep_for, '*',
    'family', family_id, 'user', user_id, 'why', why, 'at', now, 'until', expires)
  redis.call('SPUBLISH', log, string.format('%s %s %s %s %.0f', id, family_id, user_id, why, expires))
end
