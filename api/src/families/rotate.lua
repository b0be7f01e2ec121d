-- Rotate: trade the current generation of a session for the next one. A generation that was traded before is a replay and
-- ends the session, unless its bearer can only be the one who never got the answer, or who got it long ago.
-- KEYS  1 family hash   2 families of the user   3 revocation log   4 grants   5 identity   6 mark
-- ARGV  1 family id     2 user id    3 digest of the family's secret    4 generation presented
--       5 digest of the Idempotency-Key, or ''   6 attempt: the same whenever one request asks again
--       7 do nothing from this moment on (ms)    8 refresh lifetime (ms)  9 reuse grace (ms)
--       10 keep log entries for (ms)   11 '1' if a late retry and a replay may be judged, '0' while reopened rotations may be
--       on their way, or requests that were given up   12 client address
-- reply { 0 unknown | 5 revoked | 6 too late | 7 not judged | 8 superseded | 10 key of another rotation,
--         11 nobody has vouched for what Redis has, now (ms) }
--       { 12 Postgres was restored, and is to be asked whose the session is, now, how often it was }
--       { 4 replayed, now, address from which the family was last used }
--       { 1 rotated | 2 retried | 3 rolled forward | 9 traded anew, now (ms), generation, expires at (ms), username,
--         rooms that the user may enter, as a JSON array, identity of the user or false }
-- Keeps: with each token that it gives out (1, 2, 3, 9), `access_until` reaches as far as an access token of this moment may
-- live; at any time one generation is current, and each other one gives its bearer nothing or ends the session, but for the
-- one that was traded for the current one, and for that only as above.
local family, index, log, grants, identity, mark = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local family_id, user_id, secret_digest, presented = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local retry_digest, attempt = ARGV[5], ARGV[6]
local too_late, lifetime, grace = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local keep_for, may_judge, address = tonumber(ARGV[10]), ARGV[11] == '1', ARGV[12]
-- For so long a retry gets the same successor (ms).
local SAME_FOR = 120000
-- For so long a mark vouches that Redis is not an older copy of itself (ms).
local VOUCHED_FOR = 60000
-- The family knows with which keys its last four rotations were made: each in a field that is used again.
local key_field, key_mark = 'key:' .. presented % 4, presented .. ':' .. retry_digest

local now = redis_now()
if now >= too_late then return { 6, now } end

local was = redis.call('HMGET', family, 'secret_digest', 'gen', 'state', 'expires_at', 'username',
  key_field, 'attempt', 'rotated_at', 'reopened_until', 'ip', 'replayed_by', 'access_until', 'traded', 'uid', 'epoch')
-- Not constant in time: both sides are digests, and the token's tag was verified before.
if was[1] ~= secret_digest then return { 0, now } end
if was[3] == 'revoked' then
  -- The same request asks again: it was the replay, and its answer was lost.
  return attempt == was[11] and { 4, now, was[10] } or { 5, now }
end
local uid = was[14]
if uid and (redis.call('GET', identity) or uid) ~= uid then
  end_family(family, index, log, family_id, user_id, 'account_replaced', now, keep_for)
  return { 5, now }
end
-- What an older copy says of a session may have been undone since: it may have ended, or be somebody else's.
local vouched = redis.call('HMGET', mark, 'at', 'blocks', 'epoch')
if not vouched[1] or now - vouched[1] > VOUCHED_FOR or vouched[2] then return { 11, now } end
local epoch = tonumber(vouched[3]) or 0
if epoch > (tonumber(was[15]) or 0) then return { 12, now, epoch } end

local gen, limit, username = tonumber(was[2]), tonumber(was[4]), was[5]
-- Until when an access token may be valid that is given out now, or one that was given out before.
local may_live_until = math.max(now + keep_for, tonumber(was[12]) or 0)

-- Which generation was traded for the current one: `traded` says it of one generation, and is silent about those that a
-- replica of version 0.1.0 has made since.
local function traded_for_current()
  local of, traded = string.match(was[13] or '', '^(%d+):(%d+)$')
  return tonumber(of) == gen and tonumber(traded) or gen - 1
end

local function is_key_of_another_rotation()
  if retry_digest == '' then return false end
  for _, mark in ipairs(redis.call('HMGET', family, 'key:0', 'key:1', 'key:2', 'key:3')) do
    local generation, digest = string.match(mark or '', '^(%d+):(.+)$')
    if digest == retry_digest and tonumber(generation) ~= presented then return true end
  end
  return false
end

-- Make a generation the current one, for the one that is presented.
local function trade(outcome, generation)
  local expires = math.min(now + lifetime, limit)
  redis.call('HSET', family, 'gen', generation, 'traded', generation .. ':' .. presented, key_field, key_mark,
    'attempt', attempt, 'rotated_at', now, 'reopened_until', 0, 'last_used_at', now, 'ip', address,
    'access_until', may_live_until)
  redis.call('PEXPIREAT', family, expires)
  return { outcome, now, generation, expires, username, granted_rooms(grants), uid }
end

if presented >= gen then
  if is_key_of_another_rotation() then return { 10, now } end
  -- Only we can have issued a generation beyond ours: Redis lost a write in a fail-over, and the client did not.
  return trade(presented == gen and 1 or 3, presented + 1)
end

local traded = traded_for_current()
local same_key = retry_digest ~= '' and was[6] == key_mark
-- A request that was given up, and repeated with its key, arrives when its successor was used already.
if same_key and presented < traded then return { 8, now } end

if presented == traded then
  local same_request = attempt == was[7]
  local in_grace = now < tonumber(was[8]) + grace
  local reopened = now < tonumber(was[9])
  if same_request or in_grace or reopened or same_key and now < tonumber(was[8]) + SAME_FOR then
    -- With the same refresh token goes another access token.
    redis.call('HSET', family, 'last_used_at', now, 'ip', address, 'access_until', may_live_until)
    return { 2, now, gen, redis.call('PEXPIRETIME', family), username, granted_rooms(grants), uid }
  end
end
if presented >= traded and not may_judge then return { 7, now } end
-- Nobody has used the successor. Whoever holds it now may be another one than this bearer: it is worth nothing any more,
-- and gives away who uses it.
if presented == traded and same_key then return trade(9, gen + 1) end

end_family(family, index, log, family_id, user_id, 'refresh_token_reused', now, keep_for)
redis.call('HSET', family, 'replayed_by', attempt)
return { 4, now, was[10] }
