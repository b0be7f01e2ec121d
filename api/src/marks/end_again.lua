-- End again what had ended before Redis was restored from an older copy, as the audit tells it.
-- KEYS  1 revocation log   2 mark
-- ARGV  1 keep log entries for (ms)   2 what the keys of families begin with   3 what those of lists of families begin with
--       4 when that is all: from when on ends were looked for (ms), else ''
--       then for each end: 5 user id   6 family, or '' for all of the user   7 family that is spared, or ''   8 why   9 when (ms)
-- reply { how many have ended }
-- The families' own keys are known only here; they carry the same tag as KEYS, and so are in the same slot.
local log, mark = KEYS[1], KEYS[2]
local keep_for, family_prefix, families_prefix, from = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]

local now, ended = redis_now(), 0
local function end_again(index, user_id, family_id, why)
  local family = family_prefix .. family_id
  local was = redis.call('HMGET', family, 'state', 'user')
  if was[1] ~= 'active' or was[2] ~= user_id then return end
  end_family(family, index, log, family_id, user_id, why, now, keep_for)
  ended = ended + 1
end

for i = 5, #ARGV, 5 do
  local user_id, family_id, spared, why, at = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4])
  local index = families_prefix .. user_id
  if family_id ~= '' then
    end_again(index, user_id, family_id, why)
  else
    for _, id in ipairs(redis.call('ZRANGE', index, 0, -1)) do
      local created_at = tonumber(redis.call('HGET', family_prefix .. id, 'created_at'))
      if id ~= spared and created_at and created_at < at then end_again(index, user_id, id, why) end
    end
  end
end
-- Unless an older copy was found meanwhile.
if from ~= '' and redis.call('HGET', mark, 'repair_from') == from then
  redis.call('HDEL', mark, 'repair_from', 'blocks', 'before')
end
return { ended }
