-- Remove users of a dead replica from a room. Others hear who departed with it. Repeat until nobody is left.
-- KEYS  as in the preludes; the replica is the dead one
-- ARGV  1 at most so many at once
-- reply { how many are left }
local at_most = ARGV[1]

local left = {}
for _, id in ipairs(redis.call('SPOP', MEMBERS, at_most)) do depart(id, left) end
tell_of_presence({}, left)
note_replica()
return { redis.call('SCARD', MEMBERS) }
