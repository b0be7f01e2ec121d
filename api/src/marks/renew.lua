-- Renew the mark of a partition: it counts up as long as replicas see it, at most once in 5 s. Both stores and each replica
-- remember the counts: a smaller one than was seen before tells that a store is an older copy of itself.
-- KEYS  1 mark: hash { n: the count, at: when it was renewed last, before: the same before the last longer pause,
--         repair_from: sessions that have ended since then are to be ended again, blocks: no refresh before that was done,
--         accounts: the count of Postgres, epoch: how often Postgres was found restored, users: the largest number of a user }
-- ARGV  1 the largest count that is known to the caller   2 '1' if the caller knows what it should be: by its own memory, or
--         from Postgres   3 the count of Postgres, or '' if it did not answer
-- reply { 0 unknown: nobody has renewed it for long, and the caller cannot tell whether it is right, now (ms) }
--       { 1 renewed, now, count, repair from (ms) or false, epoch, largest number of a user }
local mark = KEYS[1]
local known, knows, accounts = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
-- What an ordinary fail-over may lose, in counts of 5 s: more is a restored copy.
local TOLERATED = 12
local INTERVAL, STALE = 5000, 60000

local now = redis_now()
local was = redis.call('HMGET', mark, 'n', 'at', 'before', 'repair_from', 'accounts')
local n, at = tonumber(was[1]) or 0, tonumber(was[2]) or 0
local is_stale = math.abs(now - at) > STALE
if is_stale and not knows then return { 0, now } end

if known > n then
  -- Whoever has renewed an older copy without knowing it has left behind when it was from.
  local from = math.min(at, tonumber(was[3]) or at, tonumber(was[4]) or at)
  redis.call('HSET', mark, 'n', known + 1, 'at', now, 'repair_from', from)
  if known - n > TOLERATED then redis.call('HSET', mark, 'blocks', 1) end
elseif math.abs(now - at) >= INTERVAL then
  redis.call('HSET', mark, 'n', n + 1, 'at', now)
  if is_stale and at > 0 then
    redis.call('HSET', mark, 'before', at)
  elseif n % 60 == 0 then
    redis.call('HDEL', mark, 'before') -- By now whoever knows better has seen it.
  end
end

if accounts then
  local counted = tonumber(was[5]) or 0
  if counted - accounts > TOLERATED then
    redis.call('HINCRBY', mark, 'epoch', 1)
    redis.call('HSET', mark, 'accounts', accounts)
  elseif accounts > counted then
    redis.call('HSET', mark, 'accounts', accounts)
  end
end
local is = redis.call('HMGET', mark, 'n', 'repair_from', 'epoch', 'users')
return { 1, now, tonumber(is[1]), is[2] and tonumber(is[2]), tonumber(is[3]) or 0, tonumber(is[4]) or 0 }
