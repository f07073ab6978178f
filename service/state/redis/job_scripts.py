"""What Redis does to jobs in one step; `scripts` says what every script has in common.

A job's hash holds JSON by field, and `lease`, the time of Redis until which its owner holds it.
Jobs are listed by number in three sorted sets: all of them, a domain's, and those that have not
ended. A hash has by domain the token and the job of its newest claim.

All of them also run in a full Redis, save creating one: a job must be able to say how it ended.
"""

from __future__ import annotations

from service.state.redis.scripts import script

TAKEN = b"!taken"
ENDED = b"!ended"
NONE = b"!none"

_FORGET = """
local function forget(jobs, open, id, job_prefix, line_prefix)
  local domain = redis.call('HGET', job_prefix .. id, 'domain')
  if domain then redis.call('ZREM', line_prefix .. string.sub(domain, 2, -2), id) end
  redis.call('DEL', job_prefix .. id)
  redis.call('ZREM', jobs, id)
  redis.call('ZREM', open, id)
end
"""
# KEYS from 6: job, open jobs. ARGV: id. Tells the job's domain only once that it ended.
_JOB = """
local token, status, domain = unpack(redis.call('HMGET', KEYS[6], 'token', 'status', 'domain'))
if not status then return '!missing' end
domain = string.sub(domain, 2, -2)
local function end_lease()
  redis.call('HSET', KEYS[6], 'lease', 0)
  if redis.call('ZREM', KEYS[7], ARGV[3]) == 1 then announce('job', domain) end
end
"""
_HELD = _JOB + "if token ~= ARGV[4] or status ~= '\"running\"' then return '!taken' end\n"


def _job_script(body: str) -> str:
    return script(body, " flags=allow-oom")


# KEYS: jobs, the domain's line, open jobs, the count of jobs, job, domain. ARGV: id, domain, jobs
# kept of a domain, prefixes of jobs and lines, the domain's birth or "", the fields.
CREATE = script(
    _FORGET
    + """
if ARGV[8] ~= '' and redis.call('HGET', KEYS[11], 'born') ~= ARGV[8] then return '!missing' end
local number = redis.call('INCR', KEYS[9])
redis.call('HSET', KEYS[10], unpack(ARGV, 9))
for at = 6, 8 do redis.call('ZADD', KEYS[at], number, ARGV[3]) end
for _, old in ipairs(redis.call('ZREVRANGE', KEYS[7], ARGV[5], -1)) do
  if not redis.call('ZSCORE', KEYS[8], old) then forget(KEYS[6], KEYS[8], old, ARGV[6], ARGV[7]) end
end
announce('job', ARGV[4])
"""
)

# KEYS: job, open jobs. ARGV: id, the token or "", the status if it ends the job or "", the fields.
UPDATE = _job_script(
    _JOB
    + """
if ARGV[4] ~= '' and ARGV[4] ~= (token or '0') then return '!taken' end
redis.call('HSET', KEYS[6], unpack(ARGV, 6))
if ARGV[5] ~= '' then end_lease() end
"""
)

# KEYS: open jobs, claims, the count of claims. ARGV: seconds, prefix of jobs, the fields. Replies
# the job's id.
CLAIM = _job_script("""
local seen, best = {}, nil
for _, id in ipairs(redis.call('ZRANGE', KEYS[6], 0, -1)) do
  local domain, lease = unpack(redis.call('HMGET', ARGV[4] .. id, 'domain', 'lease'))
  domain = string.sub(domain, 2, -2)
  if not seen[domain] then
    seen[domain] = true
    local served = tonumber(string.match(redis.call('HGET', KEYS[7], domain) or '0', '^%d+'))
    if tonumber(lease or '0') <= clock() and (not best or served < best.served) then
      best = {id = id, domain = domain, served = served}
    end
  end
end
if not best then return '!none' end
local token = redis.call('INCR', KEYS[8])
redis.call('HSET', KEYS[7], best.domain, token .. ' ' .. best.id)
local lease = string.format('%.6f', clock() + ARGV[3])
redis.call('HSET', ARGV[4] .. best.id, 'token', token, 'lease', lease, unpack(ARGV, 5))
reply = best.id
""")

# KEYS: job, open jobs. ARGV: id, token, seconds.
RENEW = _job_script(
    _HELD + "redis.call('HSET', KEYS[6], 'lease', string.format('%.6f', clock() + ARGV[5]))\n"
)

# KEYS: job, open jobs. ARGV: id, token, the fields.
RELEASE = _job_script(
    _HELD + "redis.call('HSET', KEYS[6], 'lease', 0, unpack(ARGV, 5))\nannounce('job', domain)\n"
)

# KEYS: job, open jobs. ARGV: id, the count of fields that end a queued job, they, the fields that
# mark a running one.
CANCEL = _job_script(
    _JOB
    + """
local count = tonumber(ARGV[4])
if status == '"queued"' then
  redis.call('HSET', KEYS[6], unpack(ARGV, 5, 4 + count))
  end_lease()
elseif status == '"running"' then
  if redis.call('HGET', KEYS[6], 'cancelling') ~= 'true' then announce('job', domain) end
  redis.call('HSET', KEYS[6], unpack(ARGV, 5 + count))
else
  return '!ended'
end
"""
)

# Replies 1 or 0. KEYS: claims. ARGV: domain, token, prefix of jobs.
HOLDS = """#!lua flags=no-writes
local token, id = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (.+)$')
if token ~= ARGV[2] then return 0 end
local job = redis.call('HMGET', ARGV[3] .. id, 'token', 'status', 'lease')
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local held = job[1] == token and job[2] == '"running"' and tonumber(job[3]) > now
return held and 1 or 0
"""

# KEYS: jobs, open jobs. ARGV: prefixes of jobs and lines, ids. Takes back jobs of which their
# sender never heard; what is still on its way from before is refused from here on, since this
# carries a newer fence.
SETTLE = _job_script(
    _FORGET + "for at = 5, #ARGV do forget(KEYS[6], KEYS[7], ARGV[at], ARGV[3], ARGV[4]) end\n",
)
