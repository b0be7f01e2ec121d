-- Write the copy of a user's grants, unless it is newer already.
-- KEYS  1 grants
-- ARGV  1 version   2 rooms as a JSON array
-- reply { the version that the copy has now, or false }
local grants = KEYS[1]
local version, rooms = ARGV[1], ARGV[2]

keep_grants(grants, version, rooms)
return { redis.call('HGET', grants, 'version') }
