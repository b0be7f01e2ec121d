-- Prelude of the scripts over presence: departures, and how others hear of both.

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
