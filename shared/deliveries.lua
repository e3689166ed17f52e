--[[ Every Redis key of webhook deliveries, and every change of one.

    mien:announcements               zset  ended jobs that nobody was told about yet: `queue.lua` writes them in the command that ends a job,
                                           so none is forgotten. Id by the time at which to see to it: a lease, while a gateway does
    mien:announced:<job>             set   the deliveries about a job, which `queue.lua` removes with the job
    mien:delivery:<id>               hash  one event for one webhook
                                             id, webhook, job, type, payload   as they were made; job is '' for a test
                                             state      pending, delivered or failed
                                             made_ms    when it was made
                                             tries      how often it was begun since it was made, or asked for again
                                             token      of the try that is under way
                                             attempts   what came of each try, a JSON list of shared.deliveries.Attempt
    mien:deliveries                  zset  the pending ones, by when each is tried next, or again if whoever tries it dies. `queue.lua`
                                           moves them when the clock was set back
    mien:webhook:<id>:deliveries     zset  all of one webhook, by made_ms: the newest, and all that are pending

A name in a zset whose hash is gone stands for nothing: it is dropped where it is met. All times are Unix milliseconds of Redis's clock. ]]

local ANNOUNCEMENTS, DELIVERIES = 'mien:announcements', 'mien:deliveries'
local KEEP = 200          -- deliveries of one webhook
local KEEP_ATTEMPTS = 20  -- of one delivery, the last ones
local BATCH = 100

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function record(job) return 'mien:job:' .. job end
local function announced(job) return 'mien:announced:' .. job end
local function delivery(id) return 'mien:delivery:' .. id end
local function log(webhook) return 'mien:webhook:' .. webhook .. ':deliveries' end
local function get(id, field) return redis.call('HGET', delivery(id), field) end
local function exists(key) return redis.call('EXISTS', key) == 1 end

local function drop(webhook, id)
  redis.call('DEL', delivery(id))
  redis.call('ZREM', DELIVERIES, id)
  redis.call('ZREM', log(webhook), id)
end

-- The oldest that nobody waits for make room.
local function trim(webhook)
  local excess = redis.call('ZCARD', log(webhook)) - KEEP
  if excess <= 0 then return end
  for _, id in ipairs(redis.call('ZRANGE', log(webhook), 0, excess - 1)) do
    if get(id, 'state') ~= 'pending' then drop(webhook, id) end
  end
end

local function schedule(id, at) redis.call('ZADD', DELIVERIES, at, id) end

-- The hash, and for a pending one `due_ms`: when it is tried next.
local function whole(id)
  local fields, due_ms = redis.call('HGETALL', delivery(id)), redis.call('ZSCORE', DELIVERIES, id)
  if due_ms then
    table.insert(fields, 'due_ms')
    table.insert(fields, due_ms)
  end
  return fields
end

-- Once, however often it is asked for.
local function make(id, webhook, job, kind, payload)
  if exists(delivery(id)) then return end
  local at = now()
  redis.call('HSET', delivery(id), 'id', id, 'webhook', webhook, 'job', job, 'type', kind, 'payload', payload,
    'state', 'pending', 'made_ms', at, 'tries', 0, 'attempts', '[]')
  schedule(id, at)
  redis.call('ZADD', log(webhook), at, id)
  if job ~= '' then redis.call('SADD', announced(job), id) end
  trim(webhook)
end

local commands = {}

-- The record of an ended job that is to be announced, for `lease_ms` to whoever asked; {} when there is none.
function commands.ended(lease_ms)
  local at = now()
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', ANNOUNCEMENTS, '-inf', at, 'LIMIT', 0, BATCH)) do
    if exists(record(job)) then
      redis.call('ZADD', ANNOUNCEMENTS, at + lease_ms, job)
      return redis.call('HGETALL', record(job))
    end
    redis.call('ZREM', ANNOUNCEMENTS, job)
  end
  return {}
end

-- Make the deliveries about an ended job, four arguments each, unless it was deleted meanwhile.
function commands.announce(job, ...)
  local made = {...}
  if exists(record(job)) then
    for i = 1, #made, 4 do make(made[i], made[i + 1], job, made[i + 2], made[i + 3]) end
  end
  redis.call('ZREM', ANNOUNCEMENTS, job)
end

function commands.test(id, webhook, kind, payload) make(id, webhook, '', kind, payload) end

-- A delivery that is due, for `lease_ms`, of a webhook that is not among the busy ones; {} when there is none.
function commands.claim(token, lease_ms, ...)
  local at, busy = now(), {}
  for _, webhook in ipairs({...}) do busy[webhook] = true end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELIVERIES, '-inf', at, 'LIMIT', 0, BATCH)) do
    local webhook = get(id, 'webhook')
    if not webhook then
      redis.call('ZREM', DELIVERIES, id)
    elseif not busy[webhook] then
      redis.call('HINCRBY', delivery(id), 'tries', 1)
      redis.call('HSET', delivery(id), 'token', token)
      schedule(id, at + lease_ms)
      return whole(id)
    end
  end
  return {}
end

-- What came of a try: `state`, and when it is `pending` in how long the next one is. 0 when another try has begun meanwhile.
function commands.settle(id, token, state, wait_ms, attempt)
  if get(id, 'token') ~= token then return 0 end
  local attempts = cjson.decode(get(id, 'attempts'))
  table.insert(attempts, cjson.decode(attempt))
  if #attempts > KEEP_ATTEMPTS then table.remove(attempts, 1) end
  redis.call('HSET', delivery(id), 'state', state, 'attempts', cjson.encode(attempts))
  redis.call('HDEL', delivery(id), 'token')
  if state == 'pending' then schedule(id, now() + wait_ms) else redis.call('ZREM', DELIVERIES, id) end
  return 1
end

-- Begin again, at once and with the whole schedule. Returns the record, or {} when the webhook has no such delivery.
function commands.again(webhook, id)
  if get(id, 'webhook') ~= webhook then return {} end
  redis.call('HSET', delivery(id), 'state', 'pending', 'tries', 0)
  redis.call('HDEL', delivery(id), 'token')
  schedule(id, now())
  return whole(id)
end

-- The deliveries of a webhook, the newest first.
function commands.list(webhook, limit)
  local found = {}
  for _, id in ipairs(redis.call('ZREVRANGE', log(webhook), 0, limit - 1)) do
    if exists(delivery(id)) then
      table.insert(found, whole(id))
    else
      redis.call('ZREM', log(webhook), id)
    end
  end
  return found
end

function commands.get(webhook, id)
  if get(id, 'webhook') ~= webhook then return {} end
  return whole(id)
end

function commands.forget(webhook)
  for _, id in ipairs(redis.call('ZRANGE', log(webhook), 0, -1)) do drop(webhook, id) end
end

-- How many are pending, and for how long the longest has been due.
function commands.backlog()
  local first = redis.call('ZRANGE', DELIVERIES, 0, 0, 'WITHSCORES')
  local due_ms = first[2] and math.max(0, now() - tonumber(first[2])) or 0
  return {redis.call('ZCARD', DELIVERIES), redis.call('ZCARD', ANNOUNCEMENTS), due_ms}
end

return commands[ARGV[1]](unpack(ARGV, 2))
