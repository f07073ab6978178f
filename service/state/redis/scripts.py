"""What Redis does in one step, in Lua: each script is a whole write, or nothing.

Every script begins with the same three questions. Is this the Redis whose epoch the data folder
knows? Has a later write of this process overtaken this one, which its sender has given up (a fence
that only counts up)? Was this very operation done already (its answer is kept a minute), so that
sending it again is safe? Answers that begin with `!` say that nothing was done.

What others have to hear of, a script appends to the feed itself, in the same step. Memory is
checked once, before a script begins: a full Redis refuses a whole write, never half of one.
"""

from __future__ import annotations

from service.state import MAX_CHANGES
from service.state.feed import KEPT_ENTRIES

LOST = b"!lost"
STALE = b"!stale"
MISSING = b"!missing"
DIFFERS = b"!differs"

KEPT_CHANGES = 10_000

# KEYS of every script: epoch, the process's fence, the operation's answer, the feed, the count of
# its entries.
_BEGIN = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return '!lost' end
local fence = tonumber(redis.call('GET', KEYS[2]) or '0')
if tonumber(ARGV[2]) < fence then return '!stale' end
local answered = redis.call('GET', KEYS[3])
if answered then return answered end
local reply = '1'
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function announce(kind, domain)
  local place = redis.call('INCR', KEYS[5])
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', KEPT_ENTRIES, place .. '-0',
    'kind', kind, 'domain', domain, 'at', string.format('%.6f', clock()))
end
""".replace("KEPT_ENTRIES", str(KEPT_ENTRIES))
_END = """
redis.call('SET', KEYS[3], reply, 'EX', 60)
if tonumber(ARGV[2]) > fence then redis.call('SET', KEYS[2], ARGV[2], 'EX', 86400) end
return reply
"""


def script(body: str, flags: str = "") -> str:
    """Return a whole write."""
    return f"#!lua{flags}\n{_BEGIN}{body}{_END}"


# Counts the generation up, logs what changed (rows, and ids of deleted ones), announces it; returns
# the generation. The log is trimmed by entries, and by the sum of their rows: no reader gets more
# than that. Rows of `later` entries do not count: readers of changes skip them. KEYS from 6:
# domain, rows, items, metadata, changes, deleted, hidden. ARGV: name, birth or "".
_LOG = """
local hidden = {}
local function log(first, rows, changed, gone, ids, later)
  local generation = redis.call('HINCRBY', KEYS[6], 'generation', 1)
  local count = later and 0 or rows - first + #changed + #gone
  local touched = redis.call('HINCRBY', KEYS[6], 'touched', count)
  redis.call('HSET', KEYS[6], 'rows', rows)
  local entry = {'touched', touched, 'first', first, 'rows', rows,
    'changed', table.concat(changed, ','), 'gone', table.concat(gone, ','),
    'ids', #ids > 0 and cjson.encode(ids) or '[]'}
  if later then entry[13], entry[14] = 'later', 1 end
  redis.call('XADD', KEYS[10], 'MAXLEN', '~', KEPT_CHANGES, generation .. '-0', unpack(entry))
  for _, id in ipairs(hidden) do redis.call('ZADD', KEYS[12], generation, id) end
  while true do
    local id, fields = unpack(redis.call('XRANGE', KEYS[10], '-', '+', 'COUNT', 1)[1])
    local until_here = fields[1] == 'touched' and tonumber(fields[2]) or 0
    if until_here > touched - MAX_CHANGES then break end
    redis.call('XDEL', KEYS[10], id)
  end
  announce('items', ARGV[3])
  return generation
end
local function put(id, row, item, metadata)
  redis.call('HSET', KEYS[8], row, item)
  if string.sub(item, -6) == 'false]' then
    hidden[#hidden + 1] = id
  else
    redis.call('ZREM', KEYS[12], id)
  end
  if metadata == '{}' then
    redis.call('HDEL', KEYS[9], row)
  else
    redis.call('HSET', KEYS[9], row, metadata)
  end
end
local function same(row, item, metadata)
  return redis.call('HGET', KEYS[8], row) == item
    and (redis.call('HGET', KEYS[9], row) or '{}') == metadata
end
local about = redis.call('HMGET', KEYS[6], 'generation', 'rows', 'born')
if not about[1] or (ARGV[4] ~= '' and ARGV[4] ~= about[3]) then return '!missing' end
local generation, first = tonumber(about[1]), tonumber(about[2])
""".replace("KEPT_CHANGES", str(KEPT_CHANGES)).replace("MAX_CHANGES", str(MAX_CHANGES))

# Replies schema and epoch. KEYS: schema, epoch. ARGV: the schema and the epoch that an empty Redis
# gets, "" for none.
OPEN = """#!lua
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1])
  redis.call('SET', KEYS[2], ARGV[2])
end
return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}
"""

# Brings schema 1 to 2, which also lists the jobs that have not ended, and 2 to 3, which remembers
# deleted ids. KEYS: schema, jobs, open jobs, domains. ARGV: prefix of jobs, of domains.
UPGRADE = """#!lua
local schema = redis.call('GET', KEYS[1])
if schema == '1' then
  local jobs = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
  for at = 1, #jobs, 2 do
    local status = redis.call('HGET', ARGV[1] .. jobs[at], 'status')
    if status == '"queued"' or status == '"running"' then
      redis.call('ZADD', KEYS[3], jobs[at + 1], jobs[at])
    end
  end
end
if schema == '1' or schema == '2' then
  for _, name in ipairs(redis.call('SMEMBERS', KEYS[4])) do
    local record = ARGV[2] .. name
    redis.call('HSET', record, 'forgotten', redis.call('HGET', record, 'generation') or 0)
  end
  redis.call('SET', KEYS[1], '3')
end
"""

# Replies items as one JSON array, null for each that is missing: the client takes that apart fifty
# times faster than as many answers. KEYS: items. ARGV: runs of rows, each the first and the last.
READ_ITEMS = """#!lua flags=no-writes
local found = {}
for at = 1, #ARGV, 2 do
  local rows = {}
  for row = ARGV[at], ARGV[at + 1] do rows[#rows + 1] = row end
  local items = redis.call('HMGET', KEYS[1], unpack(rows))
  for place = 1, #rows do items[place] = items[place] or 'null' end
  found[#found + 1] = table.concat(items, ',')
end
return '[' .. table.concat(found, ',') .. ']'
"""

# KEYS: domains, domain. ARGV: name, backbone, title, created_at.
PUT_DOMAIN = script("""
reply = tostring(redis.call('SADD', KEYS[6], ARGV[3]))
if reply == '1' then
  redis.call('HSET', KEYS[7], 'created_at', ARGV[6], 'born', KEYS[3],
    'generation', 0, 'index_generation', 0, 'rows', 0)
end
local found = redis.call('HMGET', KEYS[7], 'backbone', 'title')
if found[1] ~= ARGV[4] or found[2] ~= ARGV[5] then
  redis.call('HSET', KEYS[7], 'backbone', ARGV[4], 'title', ARGV[5])
  announce('domain', ARGV[3])
end
""")

# KEYS: domains, jobs, open jobs, claims, then all keys of the domain, its line of jobs first.
# ARGV: name, prefix of jobs.
DELETE_DOMAIN = script(
    """
if redis.call('SREM', KEYS[6], ARGV[3]) == 0 then return '!missing' end
for _, id in ipairs(redis.call('ZRANGE', KEYS[10], 0, -1)) do
  redis.call('ZREM', KEYS[7], id)
  redis.call('ZREM', KEYS[8], id)
  redis.call('UNLINK', ARGV[4] .. id)
end
redis.call('HDEL', KEYS[9], ARGV[3])
for at = 10, #KEYS do redis.call('UNLINK', KEYS[at]) end
announce('gone', ARGV[3])
""",
    " flags=allow-oom",
)

# KEYS: as for _LOG. ARGV: name, birth or "", who is visible, then id, item, metadata of each item.
# Replies "accepted updated unchanged generation".
UPSERT = script(
    _LOG
    + """
local rows, unchanged, changed = first, 0, {}
for at = 6, #ARGV, 3 do
  local item, metadata = ARGV[at + 1], ARGV[at + 2]
  local row = redis.call('HGET', KEYS[7], ARGV[at])
  if not row then
    redis.call('HSET', KEYS[7], ARGV[at], rows)
    redis.call('ZREM', KEYS[11], ARGV[at])
    put(ARGV[at], rows, item, metadata)
    rows = rows + 1
  else
    local alike = same(row, item, metadata)
    if alike then unchanged = unchanged + 1 end
    if not alike or ARGV[5] == 'all' then
      changed[#changed + 1] = row
      put(ARGV[at], row, item, metadata)
    end
  end
end
if rows > first or #changed > 0 then
  generation = log(first, rows, changed, {}, {}, ARGV[5] == 'later')
end
local known = (#ARGV - 5) / 3 - (rows - first)
reply = string.format('%d %d %d %d', rows - first, known - unchanged, unchanged, generation)
"""
)

# KEYS: as for _LOG. ARGV: name, birth or "", id, item and metadata before, item and metadata after.
# Replies as UPSERT.
REPLACE = script(
    _LOG
    + """
local row = redis.call('HGET', KEYS[7], ARGV[5])
if not row or not same(row, ARGV[6], ARGV[7]) then return '!differs' end
local changed = not same(row, ARGV[8], ARGV[9])
if changed then
  put(ARGV[5], row, ARGV[8], ARGV[9])
  generation = log(first, first, {row}, {}, {})
end
reply = string.format('0 %d %d %d', changed and 1 or 0, changed and 0 or 1, generation)
"""
)

# KEYS: as for _LOG. ARGV: name, birth or "", ids.
# Replies "deleted generation" and, joined by commas, the places of unknown ids.
DELETE_ITEMS = script(
    _LOG
    + """
local gone, ids, unknown = {}, {}, {}
for at = 5, #ARGV do
  local row = redis.call('HGET', KEYS[7], ARGV[at])
  if row then
    redis.call('HDEL', KEYS[7], ARGV[at])
    redis.call('HDEL', KEYS[8], row)
    redis.call('HDEL', KEYS[9], row)
    redis.call('ZREM', KEYS[12], ARGV[at])
    gone[#gone + 1], ids[#ids + 1] = row, ARGV[at]
  else
    unknown[#unknown + 1] = at - 5
  end
end
if #gone > 0 then
  generation = log(first, first, {}, gone, ids)
  for _, id in ipairs(ids) do redis.call('ZADD', KEYS[11], generation, id) end
  local oldest = redis.call('ZREVRANGE', KEYS[11], MAX_CHANGES, MAX_CHANGES, 'WITHSCORES')
  if oldest[2] then  -- a generation is forgotten whole
    redis.call('ZREMRANGEBYSCORE', KEYS[11], '-inf', oldest[2])
    redis.call('HSET', KEYS[6], 'forgotten', oldest[2])
  end
end
reply = string.format('%d %d ', #gone, generation) .. table.concat(unknown, ',')
""".replace("MAX_CHANGES", str(MAX_CHANGES)),
    " flags=allow-oom",
)

# KEYS: domain, probes. ARGV: name, birth or "", the probes.
PUT_PROBES = script("""
local born = redis.call('HGET', KEYS[6], 'born')
if not born or (ARGV[4] ~= '' and ARGV[4] ~= born) then return '!missing' end
redis.call('SET', KEYS[7], ARGV[5])
announce('probes', ARGV[3])
""")

# ARGV: kind, domain.
ANNOUNCE = script("announce(ARGV[3], ARGV[4])", " flags=allow-oom")
