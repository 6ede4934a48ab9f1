-- Gives the fill of a key back, if it is the holder's.
-- KEYS: the lease. ARGV: the holder, milliseconds for which claims are refused, or zero.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  return redis.call('DEL', KEYS[1])
end
redis.call('SET', KEYS[1], 'refused', 'PX', ARGV[2])
return 1
