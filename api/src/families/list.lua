-- List the living families of a user.
-- KEYS  1 families of the user
-- ARGV  1 what the keys of the user's families begin with (they carry the same tag as KEYS, and so are in the same slot)
-- reply { { family id, created at (ms), last used at (ms), expires at (ms), client address, user agent }, ... }
local index = KEYS[1]
local family_prefix = ARGV[1]

local living = {}
for _, family_id in ipairs(redis.call('ZRANGE', index, 0, -1)) do
  local family = family_prefix .. family_id
  local about = redis.call('HMGET', family, 'state', 'created_at', 'last_used_at', 'ip', 'user_agent')
  if about[1] == 'active' then
    living[#living + 1] = { family_id, about[2], about[3], redis.call('PEXPIRETIME', family), about[4], about[5] }
  end
end
return living
