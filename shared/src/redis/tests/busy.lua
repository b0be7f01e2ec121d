-- Keep Redis busy.
-- KEYS  1 anything
-- ARGV  1 for how long (ms)
-- reply 1
local busy_for = tonumber(ARGV[1]) * 1000

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local began = now()
while now() - began < busy_for do end
return 1
