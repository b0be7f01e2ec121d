-- Say who is in a room through one replica. Idempotent. Others hear who arrived first and who departed last.
-- KEYS  as in the preludes
-- ARGV  1 when the replica's lease ends, or the caller has given up (ms)
--       2 '1': nobody is there but the arrivals, '0': these are changes   3 '1': tell the state
--       4 id of the last message that this replica knows of, or nothing
--       5 number of arrivals, then id and username of each, then ids of departures
-- reply { 0, now } the lease has ended, or the caller has given up
--       { 1, seq, { after which messages are news, { user id, '<replicas>:<username>', … }, { user id, until, … },
--                   { replica through which users are there, … } } or {} }
local too_late, exact, tell_state = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3] == '1'
local known_message, arrivals = ARGV[4], tonumber(ARGV[5])

local now = redis_now()
if now >= too_late then return { 0, now } end

local joined, left, here = {}, {}, {}
for i = 6, 5 + 2 * arrivals, 2 do
  local id, username = ARGV[i], ARGV[i + 1]
  here[id] = true
  if redis.call('SADD', MEMBERS, id) == 1 then
    local replicas = tonumber(string.match(redis.call('HGET', USERS, id) or '0', '^%d+'))
    redis.call('HSET', USERS, id, replicas + 1 .. ':' .. username)
    if replicas == 0 then joined[#joined + 1] = user_json(id, username) end
  end
end

local departures = {}
for i = 6 + 2 * arrivals, #ARGV do departures[#departures + 1] = ARGV[i] end
if exact then departures = redis.call('SMEMBERS', MEMBERS) end
for _, id in ipairs(departures) do
  if not here[id] and redis.call('SREM', MEMBERS, id) == 1 then depart(id, left) end
end
local seq = tell_of_presence(joined, left)
note_replica()

if not tell_state then return { 1, seq, {} } end
-- Whoever reads a room in which nothing has happened yet has missed nothing, and comes back with this moment.
if redis.call('EXISTS', CLOCK) == 0 then seq = begin_clock() end

-- A message that a replica knows of and that is not there has been lost, as in a fail-over, and perhaps others with it.
local clock = redis.call('HMGET', CLOCK, 'last', 'gone')
local gone = clock[2] or '0-0'
local last = clock[1] or gone
local function is_lost(id)
  if not is_before(gone, id) then return false end
  if redis.call('EXISTS', HISTORY) == 0 then return is_before(last, id) end
  return #redis.call('XRANGE', HISTORY, id, id) == 0
end
if known_message ~= '' and is_lost(known_message) then
  mark_gone(id_before(now))
  mark_gone(known_message)
  gone = redis.call('HGET', CLOCK, 'gone')
end

return { 1, seq, {
  is_before(last, gone) and gone or last,
  redis.call('HGETALL', USERS),
  redis.call('ZRANGE', TYPING, '(' .. integer(now), '+inf', 'BYSCORE', 'WITHSCORES'),
  redis.call('SMEMBERS', REPLICAS),
} }
