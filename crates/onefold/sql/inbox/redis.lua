-- KEYS[1]: the inbox of the job, a hash. ARGV: step, token, result, seconds to keep it after the last claim.
-- Tokens are below 2^53: Lua's numbers hold them exactly.
local token = tonumber(ARGV[2])
if token < tonumber(redis.call('HGET', KEYS[1], 'token') or 0) then
  return {'stale'}
end
redis.call('HSET', KEYS[1], 'token', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
local done = redis.call('HGET', KEYS[1], 'step:' .. ARGV[1])
if done then
  return {'done', done}
end
-- What the step does stands here, in the same script: it is done with the inbox's entry, or not at all.
redis.call('HSET', KEYS[1], 'step:' .. ARGV[1], ARGV[3])
return {'new'}
