-- Prelude of every script over families: what more than one of them does.

-- Redis's clock, in milliseconds since 1970. No replica's clock is ever compared with another's.
local function redis_now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Mark a family as ended, take it off its user's list, log it, announce it. The log is the truth and the channel of the
-- same name is for speed; both are written in the script that ends the family, so that none ever ends unheard.
-- What says who somebody is and where they were is forgotten, but for the address that a repeated replay is told again.
-- of_interest_until (ms): as long as an access token of the family could still be valid.
local function log_end(family, index, log, family_id, user_id, why, now, of_interest_until)
  local id = redis.call('XADD', log, '*',
    'family', family_id, 'user', user_id, 'why', why, 'at', now, 'until', of_interest_until)
  redis.call('HSET', family, 'state', 'revoked', 'revoked_at', now, 'revoked_why', why, 'revoked_id', id)
  redis.call('HDEL', family, 'username', 'user_agent')
  if why ~= 'refresh_token_reused' then redis.call('HDEL', family, 'ip') end
  redis.call('ZREM', index, family_id)
  redis.call('SPUBLISH', log, string.format('%s %s %s %s %.0f', id, family_id, user_id, why, of_interest_until))
end

-- Drop from the head of the log what is of no interest any more, by what each entry says of itself: those that end families
-- may have other settings. A few at a time, but more than come.
local function trim(log, now)
  local over = 0
  for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', 10)) do
    local fields = entry[2]
    local of_interest_until = 0
    for i = 1, #fields, 2 do
      if fields[i] == 'until' then of_interest_until = tonumber(fields[i + 1]) end
    end
    if of_interest_until > now then break end
    over = over + 1
  end
  if over > 0 then redis.call('XTRIM', log, 'MAXLEN', redis.call('XLEN', log) - over) end
end

-- Until when an access token of a family could be valid (ms). The hash says when the last one was given out at the latest,
-- and for how long: a retry by a replica of version 0.1.0 gave out another one later and did not say so.
-- keep_for (ms): as long as the access tokens of the caller live; 0 if only those count that were issued already.
local function access_until(family, now, keep_for)
  local was = redis.call('HMGET', family, 'access_until', 'last_used_at')
  local issued_until = tonumber(was[1]) or 0
  local lifetime = issued_until - (tonumber(was[2]) or issued_until)
  return math.max(now + math.max(keep_for, lifetime), issued_until)
end

-- End a family. keep_for as in access_until.
local function end_family(family, index, log, family_id, user_id, why, now, keep_for)
  trim(log, now)
  log_end(family, index, log, family_id, user_id, why, now, access_until(family, now, keep_for))
end
