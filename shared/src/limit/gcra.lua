-- Count against a limit (the generic cell rate algorithm). The key holds when all will be as if nothing had come; each
-- unit moves that by one interval, and it may not be further away than a whole burst.
-- KEYS  1 when all is as if nothing had come (µs)
-- ARGV  1 interval (µs)   2 burst   3 units, or less than 0 to give some back   4 '1' to count what is too many as well
-- reply { 0 too many, not counted | 1 counted, time until all is as if nothing had come (µs) }
-- Keeps: the key is there only while it differs from no key.
local key = KEYS[1]
local interval, burst, units, count_always = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local was = math.max(tonumber(redis.call('GET', key) or now), now)
local recovers = math.max(was + interval * units, now)
if recovers > now + interval * burst and not count_always then return { 0, was - now } end

if recovers > now then
  redis.call('SET', key, string.format('%.0f', recovers), 'PX', math.ceil((recovers - now) / 1000))
else
  redis.call('DEL', key)
end
return { 1, recovers - now }
