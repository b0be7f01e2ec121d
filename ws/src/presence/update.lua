-- Say who is in a room through one replica. Idempotent. Others hear who arrived first and who departed last.
-- KEYS  as in the prelude, 6 members: set of the users who are there through the replica
-- ARGV  1 when the replica's lease ends, or the caller has given up (ms)
--       2 '1': nobody is there but the arrivals, '0': these are changes   3 '1': tell the state
--       4 number of arrivals, then id and username of each, then ids of departures
-- reply { 0, now } the lease has ended, or the caller has given up
--       { 1, seq, { after which messages are news, { user id, '<replicas>:<username>', … }, { user id, until, … } } or {} }
local members = KEYS[6]
local too_late, exact, tell_state, arrivals = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3] == '1', tonumber(ARGV[4])

local now = redis_now()
if now >= too_late then return { 0, now } end

local joined, left, here = {}, {}, {}
for i = 5, 4 + 2 * arrivals, 2 do
  local id, username = ARGV[i], ARGV[i + 1]
  here[id] = true
  if redis.call('SADD', members, id) == 1 then
    local replicas = tonumber(string.match(redis.call('HGET', USERS, id) or '0', '^%d+'))
    redis.call('HSET', USERS, id, replicas + 1 .. ':' .. username)
    if replicas == 0 then joined[#joined + 1] = user_json(id, username) end
  end
end

local departures = {}
for i = 5 + 2 * arrivals, #ARGV do departures[#departures + 1] = ARGV[i] end
if exact then departures = redis.call('SMEMBERS', members) end
for _, id in ipairs(departures) do
  if not here[id] and redis.call('SREM', members, id) == 1 then depart(id, left) end
end
local seq = tell_of_presence(joined, left)

if not tell_state then return { 1, seq, {} } end
-- Whoever reads a room in which nothing has happened yet has missed nothing, and comes back with this moment.
if redis.call('EXISTS', CLOCK) == 0 then seq = begin_clock() end
return { 1, seq, {
  redis.call('HGET', CLOCK, 'last') or redis.call('HGET', CLOCK, 'gone'),
  redis.call('HGETALL', USERS),
  redis.call('ZRANGE', TYPING, '(' .. integer(now), '+inf', 'BYSCORE', 'WITHSCORES'),
} }
