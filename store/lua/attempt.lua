-- Counts an attempt as a failure in advance, or says how long to wait first (see limit.rs).
--
-- KEYS: the failures. ARGV: how many are free, the first delay, the longest, and how long they are
-- remembered, in milliseconds. Answers the milliseconds to wait; 0: go on.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', KEYS[1], 'count', 'last')
local count, last = tonumber(known[1] or 0), tonumber(known[2] or 0)
local beyond = count - tonumber(ARGV[1])
if beyond >= 0 then
    local delay = math.min(tonumber(ARGV[3]), tonumber(ARGV[2]) * 2 ^ math.min(beyond, 30))
    local left = last + delay - now
    if left > 0 then
        return math.ceil(left)
    end
end
redis.call('HSET', KEYS[1], 'count', count + 1, 'last', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 0
