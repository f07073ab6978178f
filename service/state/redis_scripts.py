"""What Redis does in one step, in Lua: each script is a whole write, or nothing.

Every script begins with the same three questions. Is this the Redis whose epoch the data folder knows? Has a later
write of this process overtaken this one, which its sender has given up (a fence that only counts up)? Was this very
operation done already (its answer is kept a minute), so that sending it again is safe? Answers that begin with `!`
say that nothing was done.

Memory is checked once, before a script begins: a full Redis refuses a whole write, never half of one.
"""

from __future__ import annotations

LOST = b"!lost"
STALE = b"!stale"
MISSING = b"!missing"

_BEGIN = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return '!lost' end
local fence = tonumber(redis.call('GET', KEYS[2]) or '0')
if tonumber(ARGV[2]) < fence then return '!stale' end
local answered = redis.call('GET', KEYS[3])
if answered then return answered end
local reply = '1'
"""
_END = """
redis.call('SET', KEYS[3], reply, 'EX', 60)
if tonumber(ARGV[2]) > fence then redis.call('SET', KEYS[2], ARGV[2], 'EX', 86400) end
return reply
"""
_FORGET = """
local function forget(jobs, id, job_prefix, line_prefix)
  local domain = redis.call('HGET', job_prefix .. id, 'domain')
  if domain then redis.call('ZREM', line_prefix .. string.sub(domain, 2, -2), id) end
  redis.call('DEL', job_prefix .. id)
  redis.call('ZREM', jobs, id)
end
"""

# Replies schema and epoch. KEYS: schema, epoch. ARGV: the schema and the epoch that an empty Redis gets, "" for none.
OPEN = """#!lua
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1])
  redis.call('SET', KEYS[2], ARGV[2])
end
return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}
"""

# Replies items as one JSON array: the client takes that apart fifty times faster than as many answers.
# KEYS: items. ARGV: runs of rows, each the first and the last; if one is missing, nothing.
READ_ITEMS = """#!lua flags=no-writes
local found = {}
for at = 1, #ARGV, 2 do
  local rows = {}
  for row = ARGV[at], ARGV[at + 1] do rows[#rows + 1] = row end
  local whole, text = pcall(table.concat, redis.call('HMGET', KEYS[1], unpack(rows)), ',')
  if not whole then return '[]' end
  found[#found + 1] = text
end
return '[' .. table.concat(found, ',') .. ']'
"""


def _script(body: str, flags: str = "") -> str:
    return f"#!lua{flags}\n{_BEGIN}{body}{_END}"


# KEYS: domains, domain. ARGV: name, backbone, title, created_at.
PUT_DOMAIN = _script("""
reply = tostring(redis.call('SADD', KEYS[4], ARGV[3]))
if reply == '1' then
  redis.call('HSET', KEYS[5], 'created_at', ARGV[6], 'born', KEYS[3], 'generation', 0, 'index_generation', 0, 'rows', 0)
end
redis.call('HSET', KEYS[5], 'backbone', ARGV[4], 'title', ARGV[5])
""")

# KEYS: domains, jobs, then all keys of the domain, its line of jobs first. ARGV: name, prefix of jobs.
DELETE_DOMAIN = _script(
    """
if redis.call('SREM', KEYS[4], ARGV[3]) == 0 then return '!missing' end
for _, id in ipairs(redis.call('ZRANGE', KEYS[6], 0, -1)) do
  redis.call('ZREM', KEYS[5], id)
  redis.call('UNLINK', ARGV[4] .. id)
end
for at = 6, #KEYS do redis.call('UNLINK', KEYS[at]) end
""",
    " flags=allow-oom",
)

# KEYS: domain, rows, items, metadata, changes. ARGV: entries kept of the log, then id, item, metadata of each item.
# Replies "accepted updated unchanged generation".
UPSERT = _script("""
local about = redis.call('HMGET', KEYS[4], 'generation', 'rows')
if not about[1] then return '!missing' end
local generation, first = tonumber(about[1]), tonumber(about[2])
local rows, same, changed = first, 0, {}
for at = 4, #ARGV, 3 do
  local item, metadata = ARGV[at + 1], ARGV[at + 2]
  local row = redis.call('HGET', KEYS[5], ARGV[at])
  if not row then
    row, rows = rows, rows + 1
    redis.call('HSET', KEYS[5], ARGV[at], row)
  elseif redis.call('HGET', KEYS[6], row) == item and (redis.call('HGET', KEYS[7], row) or '{}') == metadata then
    row, same = nil, same + 1
  else
    changed[#changed + 1] = row
  end
  if row then
    redis.call('HSET', KEYS[6], row, item)
    if metadata == '{}' then redis.call('HDEL', KEYS[7], row) else redis.call('HSET', KEYS[7], row, metadata) end
  end
end
if rows > first or #changed > 0 then
  generation = generation + 1
  redis.call('HSET', KEYS[4], 'generation', generation, 'rows', rows)
  redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[3], generation .. '-0',
    'first', first, 'rows', rows, 'changed', table.concat(changed, ','))
end
reply = string.format('%d %d %d %d', rows - first, #changed, same, generation)
""")

# KEYS: domain.
NEXT_INDEX_GENERATION = _script("""
if redis.call('EXISTS', KEYS[4]) == 0 then return '!missing' end
reply = tostring(redis.call('HINCRBY', KEYS[4], 'index_generation', 1))
""")

# KEYS: domain, probes. ARGV: the probes.
PUT_PROBES = _script("""
if redis.call('EXISTS', KEYS[4]) == 0 then return '!missing' end
redis.call('SET', KEYS[5], ARGV[3])
""")

# KEYS: jobs, the domain's line, the count of jobs, job. ARGV: id, jobs kept, prefixes of jobs and lines, the fields.
CREATE_JOB = _script(
    _FORGET
    + """
local number = redis.call('INCR', KEYS[6])
redis.call('HSET', KEYS[7], unpack(ARGV, 7))
redis.call('ZADD', KEYS[4], number, ARGV[3])
redis.call('ZADD', KEYS[5], number, ARGV[3])
for _, old in ipairs(redis.call('ZREVRANGE', KEYS[4], ARGV[4], -1)) do
  local status = redis.call('HGET', ARGV[5] .. old, 'status')
  if status == '"succeeded"' or status == '"failed"' then forget(KEYS[4], old, ARGV[5], ARGV[6]) end
end
"""
)

# KEYS: job. ARGV: the fields. Also in a full Redis: a job must be able to say how it ended.
UPDATE_JOB = _script(
    """
if redis.call('EXISTS', KEYS[4]) == 0 then return '!missing' end
redis.call('HSET', KEYS[4], unpack(ARGV, 3))
""",
    " flags=allow-oom",
)

# KEYS: jobs. ARGV: prefixes of jobs and lines, ids. Takes back jobs of which their sender never heard; what is still
# on its way from before is refused from here on, since this carries a newer fence.
SETTLE = _script(
    _FORGET + "for at = 5, #ARGV do forget(KEYS[4], ARGV[at], ARGV[3], ARGV[4]) end\n",
    " flags=allow-oom",
)
