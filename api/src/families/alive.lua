-- Tell whether the session of a refresh token is alive, whichever of its generations the token is of.
-- KEYS  1 family hash
-- ARGV  1 digest of the family's secret
-- reply { 1 alive | 0 not }
local family = KEYS[1]
local secret_digest = ARGV[1]

local is = redis.call('HMGET', family, 'secret_digest', 'state')
return { is[1] == secret_digest and is[2] == 'active' and 1 or 0 }
