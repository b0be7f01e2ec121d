-- Remove users of a dead replica from a room. Others hear who departed with it. Repeat until nobody is left.
-- KEYS  as in the prelude, 6 members: set of the users who are there through the dead replica
-- ARGV  1 at most so many at once
-- reply { how many are left }
local members, at_most = KEYS[6], ARGV[1]

local left = {}
for _, id in ipairs(redis.call('SPOP', members, at_most)) do depart(id, left) end
tell_of_presence({}, left)
return { redis.call('SCARD', members) }
