-- Prelude of every script over a room. A room's events have a number, and are published in the order of their numbers by
-- the script that makes them happen: who follows the channel sees the room change as Redis does, and knows what they missed.
--   KEYS  1 channel   2 clock: hash { seq, last, gone }   3 users: hash { user id -> '<replicas>:<username>' }
--         4 typing: sorted set { user id -> until (ms) }   5 history: stream { user, data }
-- clock: seq is the number of the last event, last the id of the last message, gone an id up to which messages may be
-- missing from the history: they left it, or were lost.
local CHANNEL, CLOCK, USERS, TYPING, HISTORY = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local CLOCK_KEPT_FOR = 60 * 60 * 1000

-- Redis's clock, in milliseconds since 1970. No replica's clock is ever compared with another's.
local function redis_now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function integer(number) return string.format('%.0f', number) end

-- Whether the message id a is lower than b.
local function is_before(a, b)
  local a_time, a_count = string.match(a, '(%d+)-(%d+)')
  local b_time, b_count = string.match(b, '(%d+)-(%d+)')
  if a_time ~= b_time then return tonumber(a_time) < tonumber(b_time) end
  return tonumber(a_count) < tonumber(b_count)
end

-- An id that is lower than every id of this millisecond, and higher than every earlier one: <now>-0 may still be given.
-- The number is the largest that JavaScript holds exactly.
local function id_before(now) return integer(now - 1) .. '-9007199254740991' end

-- Note that messages up to this id may be missing. The marker never goes back.
local function mark_gone(id)
  local gone = redis.call('HGET', CLOCK, 'gone')
  if not gone or is_before(gone, id) then redis.call('HSET', CLOCK, 'gone', id) end
end

-- A clock that begins, begins at the time of day: it is then ahead of every earlier clock of this room, which may have
-- expired or been lost. So may messages have been: whatever was before is gone.
local function begin_clock()
  local now = redis_now()
  redis.call('HSET', CLOCK, 'seq', integer(now * 1000), 'gone', id_before(now))
  redis.call('PEXPIRE', CLOCK, CLOCK_KEPT_FOR)
  return now * 1000
end

-- Tell everybody who follows the room.
local function tell(fields)
  local seq = redis.call('HINCRBY', CLOCK, 'seq', 1)
  if seq == 1 then seq = begin_clock() end
  redis.call('PEXPIRE', CLOCK, CLOCK_KEPT_FOR)
  redis.call('SPUBLISH', CHANNEL, '{"seq":' .. integer(seq) .. ',' .. fields .. '}')
  return seq
end

local function user_json(id, username)
  return '{"id":' .. id .. ',"username":' .. cjson.encode(username) .. '}'
end
