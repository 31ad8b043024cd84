-- Counts one request in every log, or in none of them when one is full (see limit.rs).
--
-- KEYS: a list of times for each budget. ARGV: requests and window in milliseconds of each, then 1,
-- or 0 to look and count nothing.
-- Answers which budget is full (0: none), the milliseconds until it has room (until the oldest
-- request of the last one leaves when none is full), and how many more requests the last one takes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = tonumber(ARGV[#ARGV])
local left, wait = 0, 0
for i, key in ipairs(KEYS) do
    local requests, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    local oldest = redis.call('LINDEX', key, 0)
    while oldest and tonumber(oldest) + window <= now do
        redis.call('LPOP', key)
        oldest = redis.call('LINDEX', key, 0)
    end
    local used = redis.call('LLEN', key)
    wait = math.max(1, tonumber(oldest or now) + window - now)
    if used >= requests then
        return { i, wait, 0 }
    end
    left = requests - used - count
end
if count == 1 then
    for i, key in ipairs(KEYS) do
        redis.call('RPUSH', key, string.format('%.0f', now))
        redis.call('PEXPIRE', key, ARGV[2 * i])
    end
end
return { 0, wait, left }
