-- Tell the replicas that a user may not be in the room any more. They end the user's membership.
-- KEYS  as in the prelude
-- ARGV  1 user id
-- reply { 1 }
tell('"expel":' .. ARGV[1])
return { 1 }
