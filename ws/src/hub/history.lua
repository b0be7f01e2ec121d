-- Read the messages of a room from a given one on, the newest first, until there are too many bytes of them.
-- KEYS  as in the prelude
-- ARGV  1 id of the first message that matters   2 at most so many bytes
-- reply { seq or 0, up to which id messages may be missing, id of the last message,
--         1 all was read | 0 older messages were left out, { { id, { 'user', user, 'data', data } }, … } }
local from, free = ARGV[1], tonumber(ARGV[2])
-- As many as are read at once: a message has at most 16 KiB.
local PAGE = 8

local clock = redis.call('HMGET', CLOCK, 'seq', 'last', 'gone')
if not clock[1] then return { 0, '0-0', '0-0', 1, {} } end
local gone = clock[3] or '0-0'
local last = clock[2] or gone
if is_before(last, gone) then last = gone end
-- A history expires as a whole, some time after its last message.
if redis.call('EXISTS', HISTORY) == 0 then gone = last end

local entries, newest = {}, '+'
repeat
  local page = redis.call('XREVRANGE', HISTORY, newest, from, 'COUNT', PAGE)
  for _, entry in ipairs(page) do
    free = free - #entry[2][2] - #entry[2][4]
    if free < 0 then return { tonumber(clock[1]), gone, last, 0, entries } end
    entries[#entries + 1] = entry
    newest = '(' .. entry[1]
  end
until #page < PAGE
return { tonumber(clock[1]), gone, last, 1, entries }
