-- Prelude of the scripts over presence: departures, how others hear of both, and through which replicas users are there.
--   KEYS  6 members: set of the users who are there through one replica   7 replicas: set of the replicas that have such a
--         set. Version 0.1 does not keep it: a replica may be missing there, or stand there without users.
local MEMBERS, REPLICAS = KEYS[6], KEYS[7]

-- Note whether users are there through the replica.
local function note_replica()
  local change = redis.call('EXISTS', MEMBERS) == 1 and 'SADD' or 'SREM'
  redis.call(change, REPLICAS, string.match(MEMBERS, '[^:]+$'))
end

-- Count one replica less for a user, and list them if it was the last one.
local function depart(id, left)
  local replicas, username = string.match(redis.call('HGET', USERS, id) or '', '^(%d+):(.*)$')
  if not replicas then return end
  if tonumber(replicas) > 1 then
    redis.call('HSET', USERS, id, tonumber(replicas) - 1 .. ':' .. username)
  else
    redis.call('HDEL', USERS, id)
    redis.call('ZREM', TYPING, id)
    left[#left + 1] = user_json(id, username)
  end
end

-- Tell who arrived and who departed, if anybody did. Returns the number of the room's last event.
local function tell_of_presence(joined, left)
  if #joined + #left == 0 then return tonumber(redis.call('HGET', CLOCK, 'seq') or 0) end
  return tell('"join":[' .. table.concat(joined, ',') .. '],"leave":[' .. table.concat(left, ',') .. ']')
end
