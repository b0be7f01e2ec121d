-- What was published in a room after a message.
-- KEYS  as in the prelude
-- ARGV  1 id of the message
-- reply { seq, 1 that is all of it | 0 some of it is gone, { { id, { 'user', user, 'data', data } }, … } }
local since = ARGV[1]

local function is_before(a, b)
  local a_time, a_count = string.match(a, '(%d+)-(%d+)')
  local b_time, b_count = string.match(b, '(%d+)-(%d+)')
  if a_time ~= b_time then return tonumber(a_time) < tonumber(b_time) end
  return tonumber(a_count) < tonumber(b_count)
end

local clock = redis.call('HMGET', CLOCK, 'seq', 'last', 'gone')
if not clock[1] then return { 0, 0, {} } end
local seq, gone = tonumber(clock[1]), clock[3] or '0-0'
local last = clock[2] or gone
-- A history expires as a whole, some time after its last message.
if redis.call('EXISTS', HISTORY) == 0 then gone = last end
-- A message that is later than the last one was lost, and others with it.
local recovered = not is_before(since, gone) and not is_before(last, since)
return { seq, recovered and 1 or 0, redis.call('XRANGE', HISTORY, '(' .. since, '+') }
