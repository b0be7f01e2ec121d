-- Renew the lease of a replica, and let it hear itself.
-- KEYS  1 leases: sorted set { replica -> end (ms) }   2 dead: sorted set { replica -> end of its eviction (ms) }
--       3 channel on which the replica hears itself
-- ARGV  1 replica   2 '1': it is new, '0': it must be there   3 length of a lease (ms)   4 what it shall hear
-- reply { 0 it was taken for dead, or Redis has lost it | 1 renewed, now, end of the lease, when the first of the others'
--         leases or evictions ends or -1 }
local leases, dead, channel = KEYS[1], KEYS[2], KEYS[3]
local replica, is_new, length, echo = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3]), ARGV[4]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('ZSCORE', leases, replica)
if not known and not is_new then return { 0, now, 0, -1 } end
redis.call('ZADD', leases, now + length, replica)
redis.call('SPUBLISH', channel, echo)

local first = -1
local function consider(entries)
  for i = 1, #entries, 2 do
    local ends = tonumber(entries[i + 1])
    if entries[i] ~= replica and (first == -1 or ends < first) then first = ends end
  end
end
consider(redis.call('ZRANGE', leases, 0, 1, 'WITHSCORES'))
consider(redis.call('ZRANGE', dead, 0, 0, 'WITHSCORES'))
return { 1, now, now + length, first }
