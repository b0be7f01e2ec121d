-- Who is in a room.
-- KEYS  as in the prelude
-- ARGV  1 at most so many are named
-- reply { how many there are, { user id, '<replicas>:<username>', … } }
return { redis.call('HLEN', USERS), redis.call('HRANDFIELD', USERS, ARGV[1], 'WITHVALUES') }
