-- Who types, and who stopped. Others hear what is new.
-- KEYS  as in the prelude
-- ARGV  1 how long typing lasts (ms)   2 number of those who type, then id and username of each, then ids of who stopped
-- reply { 1 }
local lifetime, starts = tonumber(ARGV[1]), tonumber(ARGV[2])

local now = redis_now()
local started, stopped = {}, {}
for i = 3, 2 + 2 * starts, 2 do
  local id, username = ARGV[i], ARGV[i + 1]
  redis.call('ZADD', TYPING, now + lifetime, id)
  started[#started + 1] = '{"user":' .. user_json(id, username) .. ',"until":' .. integer(now + lifetime) .. '}'
end
for i = 3 + 2 * starts, #ARGV do
  if redis.call('ZREM', TYPING, ARGV[i]) == 1 then stopped[#stopped + 1] = ARGV[i] end
end
redis.call('ZREMRANGEBYSCORE', TYPING, '-inf', integer(now))
redis.call('PEXPIRE', TYPING, lifetime)
if #started + #stopped > 0 then
  tell('"typing":[' .. table.concat(started, ',') .. '],"stopped":[' .. table.concat(stopped, ',') .. ']')
end
return { 1 }
