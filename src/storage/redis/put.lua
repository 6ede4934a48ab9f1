-- Keeps an entry, unless the one that is there began later.
-- KEYS: the entry. ARGV: the entry with stamp and begin in front, their length, milliseconds to live, a channel, what to
-- tell it: the entry takes another one's place in the memory of processes, though it may be forgotten here.
local order = tonumber(ARGV[2])
local held = redis.pcall('GETRANGE', KEYS[1], 0, order - 1)
-- A key of another type is not ours, and in our place.
if type(held) == 'string' and held > string.sub(ARGV[1], 1, order) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
