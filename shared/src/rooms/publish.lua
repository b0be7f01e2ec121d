-- Publish a message: into the room's history, and to everybody who follows the room. It ends its author's typing.
-- KEYS  as in the prelude
-- ARGV  1 when the caller has given up (ms)   2 user id   3 user as JSON   4 data as JSON   5 room
--       6 messages kept   7 for (ms)   8 trace to go on with, or nothing; it is not kept, and no client hears of it
-- reply { 0, now } given up before | { 1, id of the message }
local give_up, user_id, user, data, room = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local keep, keep_for, trace = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]

local now = redis_now()
if now >= give_up then return { 0, now } end
local id = redis.call('XADD', HISTORY, '*', 'user', user, 'data', data)

-- What is too old or one too many goes, and is remembered as gone, so that whoever comes back knows what they miss.
local too_old = redis.call('XRANGE', HISTORY, '-', integer(now - keep_for))
local too_many = redis.call('XLEN', HISTORY) - keep
local leaving = math.max(#too_old, too_many)
if leaving > 0 then
  local gone = redis.call('XRANGE', HISTORY, '-', '+', 'COUNT', leaving)
  redis.call('HSET', CLOCK, 'gone', gone[#gone][1])
  redis.call('XTRIM', HISTORY, 'MAXLEN', redis.call('XLEN', HISTORY) - leaving)
end
redis.call('PEXPIRE', HISTORY, keep_for)

local stopped = redis.call('ZREM', TYPING, user_id) == 1 and user_id or ''
if trace ~= '' then trace = '"trace":"' .. trace .. '",' end
tell(trace .. '"stopped":[' .. stopped .. '],"id":"' .. id .. '","message":{"room":"' .. room .. '","id":"' .. id
  .. '","user":' .. user .. ',"data":' .. data .. ',"timestamp":' .. string.match(id, '^%d+') .. '}')
redis.call('HSET', CLOCK, 'last', id)
return { 1, id }
