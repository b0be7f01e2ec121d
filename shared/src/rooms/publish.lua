-- Publish a message: into the room's history, and to everybody who follows the room. It ends its author's typing.
-- KEYS  as in the prelude
-- ARGV  1 when the caller has given up (ms)   2 user id   3 user as JSON   4 data as JSON   5 room
--       6 messages kept   7 for (ms)   8 trace to go on with, or nothing; it is not kept, and no client hears of it
--       9 interval between messages to the room (µs)   10 messages that may come at once
-- reply { 0, now } given up before | { 1, id of the message } | { 2, how long until there may be one more (ms) }
local give_up, user_id, user, data, room = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local keep, keep_for, trace = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local interval, burst = tonumber(ARGV[9]), tonumber(ARGV[10])

local now = redis_now()
if now >= give_up then return { 0, now } end

-- The room's own limit (the generic cell rate algorithm): pace is when all will be as if nothing had been published.
local pace = math.max(tonumber(redis.call('HGET', CLOCK, 'pace') or 0), now * 1000) + interval
local excess = pace - now * 1000 - interval * burst
if excess > 0 then return { 2, math.ceil(excess / 1000) } end

local id = redis.call('XADD', HISTORY, '*', 'user', user, 'data', data)

-- What is too old or one too many goes, and is remembered as gone, so that whoever comes back knows what they miss.
local too_old = redis.call('XRANGE', HISTORY, '-', integer(now - keep_for))
local length = redis.call('XLEN', HISTORY)
local too_many = length - keep
local leaving = math.max(#too_old, too_many)
if leaving > 0 then
  local gone = redis.call('XRANGE', HISTORY, '-', '+', 'COUNT', leaving)
  mark_gone(gone[#gone][1])
  redis.call('XTRIM', HISTORY, 'MAXLEN', length - leaving)
end
-- The history before this message has expired as a whole.
local last = length == 1 and redis.call('HGET', CLOCK, 'last')
if last then mark_gone(last) end
redis.call('PEXPIRE', HISTORY, keep_for)

local stopped = redis.call('ZREM', TYPING, user_id) == 1 and user_id or ''
if trace ~= '' then trace = '"trace":"' .. trace .. '",' end
tell(trace .. '"stopped":[' .. stopped .. '],"id":"' .. id .. '","message":{"room":"' .. room .. '","id":"' .. id
  .. '","user":' .. user .. ',"data":' .. data .. ',"timestamp":' .. string.match(id, '^%d+') .. '}')
redis.call('HSET', CLOCK, 'last', id, 'pace', integer(pace))
return { 1, id }
