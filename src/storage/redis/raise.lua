-- Raises fences; makes the clock where there is none, for a caller that raises nothing.
-- KEYS: the fences, what they are within. ARGV: milliseconds to live, the most fences, the fence of everything, a word,
-- a channel, then each fence and the wider one around it. Gives the clock and the word; tells the channel what was raised.
local fences, within, everything = KEYS[1], KEYS[2], ARGV[3]
local time = redis.call('TIME')
local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = tonumber(redis.call('ZSCORE', fences, 'clock') or nil)
if not last then
  -- What was stored before the fences were lost, or in an earlier life, is older than this.
  redis.call('DEL', within)
  redis.call('ZADD', fences, string.format('%.0f', clock), everything)
elseif #ARGV == 5 then
  clock = last
elseif last >= clock then
  clock = last + 1
end
-- A number would be written with fewer digits than it has.
local now = string.format('%.0f', clock)
for i = 6, #ARGV, 2 do
  redis.call('ZADD', fences, now, ARGV[i])
  redis.call('HSET', within, ARGV[i], ARGV[i + 1])
end
redis.call('ZADD', fences, now, 'clock')
-- Past the bound the oldest fences become those around them, at their own time: nothing escapes. The narrow ones first;
-- each raise brings a few, so a few are looked at.
local function fold(also_wide)
  local surplus = redis.call('ZCARD', fences) - tonumber(ARGV[2])
  if surplus <= 0 then
    return
  end
  local oldest = redis.call('ZRANGE', fences, 0, surplus + 256, 'WITHSCORES')
  for i = 1, #oldest, 2 do
    local id, at = oldest[i], oldest[i + 1]
    local wider = redis.call('HGET', within, id) or everything
    if id ~= everything and id ~= 'clock' and (also_wide or wider ~= everything) then
      redis.call('ZREM', fences, id)
      redis.call('HDEL', within, id)
      redis.call('ZADD', fences, 'GT', at, wider)
      if wider ~= everything then
        redis.call('HSETNX', within, wider, everything)
      end
    end
  end
end
fold(false)
fold(true)
redis.call('PEXPIRE', fences, ARGV[1])
redis.call('PEXPIRE', within, ARGV[1])
local raised = table.concat(ARGV, ' ', 6)
if not last then
  raised = everything .. ' ' .. everything .. ' ' .. raised
end
if raised ~= '' then
  redis.call('PUBLISH', ARGV[5], now .. ' ' .. raised)
end
return {now, ARGV[4]}
