-- Say how many sockets a user has on a replica, and hear how many they have on the others.
-- KEYS  1 sockets: hash { replica -> '<sockets>:<until when that counts (ms)>' }
-- ARGV  1 replica   2 how many sockets the user has there   3 how long that counts (ms)
-- reply { how many sockets the user has elsewhere }
local sockets, replica, count, counts_for = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local elsewhere, entries = 0, redis.call('HGETALL', sockets)
for i = 1, #entries, 2 do
  local there, until_when = string.match(entries[i + 1], '^(%d+):(%d+)$')
  if not there or tonumber(until_when) <= now then
    redis.call('HDEL', sockets, entries[i])
  elseif entries[i] ~= replica then
    elsewhere = elsewhere + tonumber(there)
  end
end
if count > 0 then
  redis.call('HSET', sockets, replica, string.format('%d:%.0f', count, now + counts_for))
  redis.call('PEXPIRE', sockets, counts_for)
else
  redis.call('HDEL', sockets, replica)
end
return { elsewhere }
