-- Counts one request in every log, or in none of them when one is full (see limit.rs).
--
-- KEYS: a list of times for each budget. ARGV: requests and window in milliseconds of each.
-- Answers which budget is full (0: none), the milliseconds until it has room, and how many more
-- requests the last one takes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = 0
for i, key in ipairs(KEYS) do
    local requests, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    local oldest = redis.call('LINDEX', key, 0)
    while oldest and tonumber(oldest) + window <= now do
        redis.call('LPOP', key)
        oldest = redis.call('LINDEX', key, 0)
    end
    local used = redis.call('LLEN', key)
    if used >= requests then
        return { i, math.max(1, tonumber(oldest) + window - now), 0 }
    end
    left = requests - used - 1
end
for i, key in ipairs(KEYS) do
    redis.call('RPUSH', key, string.format('%.0f', now))
    redis.call('PEXPIRE', key, ARGV[2 * i])
end
return { 0, 0, left }
