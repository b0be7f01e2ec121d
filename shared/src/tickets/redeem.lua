-- Redeem a socket ticket: of any number of attempts, on any replicas, one gets what it stands for.
-- KEYS  1 ticket
-- reply { 1 redeemed, for whom it opens a socket } | { 0 unknown: never issued, used, or too old }
local ticket = KEYS[1]

local bearer = redis.call('GETDEL', ticket)
if not bearer then return { 0 } end
return { 1, bearer }
