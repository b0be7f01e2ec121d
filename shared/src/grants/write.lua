-- Write the copy of a user's grants, unless it is newer already.
-- KEYS  1 grants
-- ARGV  1 version   2 rooms as a JSON array   3 identity of the user, or ''
-- reply { the version that the copy has now, or false }
local grants = KEYS[1]
local version, rooms, uid = ARGV[1], ARGV[2], ARGV[3]

keep_grants(grants, version, rooms, uid)
return { redis.call('HGET', grants, 'version') }
