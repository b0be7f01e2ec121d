-- Claim a replica whose lease has ended, to evict it. Of several who try, one gets it; if that one does not finish in time,
-- it can be claimed again.
-- KEYS  1 leases: sorted set { replica -> end (ms) }   2 dead: sorted set { replica -> end of its eviction (ms) }
-- ARGV  1 for how long a lease must have ended (ms)   2 how long an eviction may take (ms)
-- reply { the replica, or nothing }
local leases, dead = KEYS[1], KEYS[2]
local overdue, patience = tonumber(ARGV[1]), tonumber(ARGV[2])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replica = redis.call('ZRANGE', leases, '-inf', now - overdue, 'BYSCORE', 'LIMIT', 0, 1)[1]
  or redis.call('ZRANGE', dead, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)[1]
if not replica then return {} end
redis.call('ZREM', leases, replica)
redis.call('ZADD', dead, now + patience, replica)
return { replica }
