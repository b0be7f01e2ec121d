-- Who types, and who stopped. Others hear what is new.
-- KEYS  as in the prelude
-- ARGV  1 when the caller has given up (ms)   2 how long typing lasts (ms)
--       3 number of those who type, then id and username of each, then ids of who stopped
-- reply { 0, now } given up before | { 1 }
local give_up, lifetime, starts = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local now = redis_now()
if now >= give_up then return { 0, now } end
local started, stopped = {}, {}
for i = 4, 3 + 2 * starts, 2 do
  local id, username = ARGV[i], ARGV[i + 1]
  redis.call('ZADD', TYPING, now + lifetime, id)
  started[#started + 1] = '{"user":' .. user_json(id, username) .. ',"until":' .. integer(now + lifetime) .. '}'
end
for i = 4 + 2 * starts, #ARGV do
  if redis.call('ZREM', TYPING, ARGV[i]) == 1 then stopped[#stopped + 1] = ARGV[i] end
end
redis.call('ZREMRANGEBYSCORE', TYPING, '-inf', integer(now))
redis.call('PEXPIRE', TYPING, lifetime)
if #started + #stopped > 0 then
  tell('"typing":[' .. table.concat(started, ',') .. '],"stopped":[' .. table.concat(stopped, ',') .. ']')
end
return { 1 }
