-- Claims the fill of a key, or keeps it.
-- KEYS: the lease. ARGV: the holder, milliseconds. Gives 1 if it is the holder's, 0 if another's, 2 if refused.
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] then
  return holder == 'refused' and 2 or 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
