--[[ Every Redis key of Mien, and every change of a job's state.

    mien:job:<id>        hash    the record: the fields of shared.jobs.Job (text as it is, everything else as JSON), and
                                   entry       the stream entry that stands for the job while it is queued or running
                                   lease       token of the attempt that holds the job, or that ended it
                                   errors      attempts that ended in an error worth another try
                                   waiting_ms  when the job was first handed back because no model answered, since it last got somewhere
    mien:queue           stream  one entry per job that is queued or running, oldest first. Consumer group `workers`: a claimed
                                 entry is pending, and its idle time there is the age of the holder's last beat
    mien:delayed         zset    id by the time at which the job is tried again; such a job is `queued` but has no entry
    mien:jobs:all        zset    every job as "<created_ms> <id>"; all scores are 0, so the order is that of acceptance
    mien:jobs:<state>    zset    the same, one set per state
    mien:expires         zset    final jobs, as in mien:jobs:all, by the time at which they are forgotten
    mien:worked          string  when a worker last held a lease
    mien:aliases         hash    champion, canary, shadow -> version of a release
    mien:alias:<name>    list    versions that had the alias before, the latest first

                          .--------- release, postpone, retry ----------.
                          v                                             |
    submit ---------> queued ---------------- claim ------------> running (claimed again when its lease runs out)
                          |                                             |
                          '- cancel -> canceled      succeed, fail, canceled -> succeeded, failed, canceled

All times are Unix milliseconds of Redis's own clock, but for created_ms, which the gateway wrote. The whole file is one
script: the first argument names the command, and no other command runs in between (Redis does not roll back, so a command
checks before it writes). The keys are not declared to Redis, so a cluster is no place for them. ]]

local QUEUE, GROUP, CONSUMER = 'mien:queue', 'workers', 'worker'
local DELAYED, EXPIRES, WORKED, ALIASES = 'mien:delayed', 'mien:expires', 'mien:worked', 'mien:aliases'
local STATES = {'queued', 'running', 'succeeded', 'failed', 'canceled'}
local WAITING = '{"stage":"waiting"}'
local KEEP_MS = 7 * 24 * 3600 * 1000
local HANDED_BACK_MS = 30 * 24 * 3600 * 1000 -- the idle time of an entry that was handed back: free for anyone at any time
local LONGEST_BACKOFF_MS = 10 * 60 * 1000
local KEEP_VERSIONS = 20                     -- of an alias's history
local BATCH = 100                            -- how much one call tidies up, so that none takes long

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function record(id) return 'mien:job:' .. id end
local function index(name) return 'mien:jobs:' .. name end
local function history(name) return 'mien:alias:' .. name end
local function get(id, field) return redis.call('HGET', record(id), field) end
local function place(id) return string.format('%013d %s', get(id, 'created_ms'), id) end
local function id_of(member) return string.sub(member, 15) end

local function is_final(state) return state == 'succeeded' or state == 'failed' or state == 'canceled' end
local function holds(id, token) return get(id, 'state') == 'running' and get(id, 'lease') == token end
local function cancel_requested(id) return get(id, 'cancel_requested') == 'true' end

-- The stream never exists without its group: whoever needs either makes both, also after a Redis that lost its data.
local function ensure_queue()
  if redis.call('EXISTS', QUEUE) == 0 then redis.call('XGROUP', 'CREATE', QUEUE, GROUP, '0', 'MKSTREAM') end
end

local function enqueue(id)
  ensure_queue()
  redis.call('HSET', record(id), 'entry', redis.call('XADD', QUEUE, '*', 'id', id))
end

local function drop_entry(entry)
  redis.call('XACK', QUEUE, GROUP, entry)
  redis.call('XDEL', QUEUE, entry)
end

local function dequeue(id)
  local entry = get(id, 'entry')
  if entry then drop_entry(entry) end
  redis.call('HDEL', record(id), 'entry')
  redis.call('ZREM', DELAYED, id)
end

-- The one place where a state is written.
local function enter(id, state)
  local member = place(id)
  redis.call('ZREM', index(get(id, 'state')), member)
  redis.call('ZADD', index(state), 0, member)
  redis.call('HSET', record(id), 'state', state)
end

local function finish(id, state, ...)
  local at = now()
  dequeue(id)
  redis.call('HSET', record(id), 'ended_ms', at, ...)
  enter(id, state)
  redis.call('ZADD', EXPIRES, at + KEEP_MS, place(id))
end

local function forget(member)
  local id = id_of(member)
  dequeue(id)
  redis.call('DEL', record(id))
  redis.call('ZREM', EXPIRES, member)
  redis.call('ZREM', index('all'), member)
  for _, state in ipairs(STATES) do redis.call('ZREM', index(state), member) end
end

-- Whether a job is to be forgotten by now. It is unknown from then on, though it may take some calls until it is gone.
local function is_expired(member, at)
  local due = redis.call('ZSCORE', EXPIRES, member)
  return due and tonumber(due) <= at
end

local function forget_expired(at)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', EXPIRES, '-inf', at, 'LIMIT', 0, BATCH)) do forget(member) end
end

local function enqueue_due(at)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELAYED, '-inf', at, 'LIMIT', 0, BATCH)) do
    redis.call('ZREM', DELAYED, id)
    enqueue(id)
  end
end

local function uncharge(id) redis.call('HINCRBY', record(id), 'attempts', -1) end
local function got_somewhere(id) return (cjson.decode(get(id, 'progress')).frames_done or 0) > 0 end

-- Take a running job back from its attempt. Returns false when it shall not run again.
local function take_back(id)
  if cancel_requested(id) then
    finish(id, 'canceled')
    return false
  end
  redis.call('HDEL', record(id), 'lease', 'release')
  redis.call('HSET', record(id), 'progress', WAITING)
  enter(id, 'queued')
  return true
end

-- The job keeps its entry, and so its place at the front.
local function hand_back(id)
  if take_back(id) then
    redis.call('XCLAIM', QUEUE, GROUP, CONSUMER, 0, get(id, 'entry'), 'IDLE', HANDED_BACK_MS, 'JUSTID')
  end
end

-- The oldest pending entry without a beat for `idle` ms, else the oldest new one: {entry, id}, or nil when there is none.
-- XPENDING IDLE looks at every pending entry; XAUTOCLAIM COUNT 1 would look at ten, and miss what is behind them.
local function next_entry(idle)
  local stale = redis.call('XPENDING', QUEUE, GROUP, 'IDLE', idle, '-', '+', 1)[1]
  if stale then
    local claimed = redis.call('XCLAIM', QUEUE, GROUP, CONSUMER, idle, stale[1])[1]
    return {stale[1], claimed and claimed[2][2]}
  end
  local fresh = redis.call('XREADGROUP', 'GROUP', GROUP, CONSUMER, 'COUNT', 1, 'STREAMS', QUEUE, '>')
  if fresh then
    local entry = fresh[1][2][1]
    return {entry[1], entry[2] and entry[2][2]}
  end
end

local function start(id, token, at)
  redis.call('HINCRBY', record(id), 'attempts', 1) -- before the job runs, and in one step with the claim: deaths count
  redis.call('HDEL', record(id), 'release')
  redis.call('HSET', record(id), 'lease', token, 'started_ms', at, 'progress', WAITING)
  redis.call('SET', WORKED, at)
  enter(id, 'running')
end

local function held(id, token) -- the answer to a beat or a report
  if not holds(id, token) then return 'lost' end
  if cancel_requested(id) then return 'cancel' end
  return 'held'
end

-- End a job once: 1 when this attempt did it, now or in a call whose reply was lost; 0 when it may not.
local function conclude(id, token, allowed, state, ...)
  if get(id, 'state') == state and get(id, 'lease') == token then return 1 end
  if not allowed then return 0 end
  finish(id, state, 'lease', token, ...)
  return 1
end

local commands = {}

-- the gateway's -------------------------------------------------------------------------------------------------------

function commands.submit(id, ...)
  forget_expired(now())
  if redis.call('EXISTS', record(id)) == 1 then return 0 end
  redis.call('HSET', record(id), ...)
  redis.call('HSET', record(id), 'state', 'queued')
  redis.call('ZADD', index('all'), 0, place(id))
  enter(id, 'queued')
  enqueue(id)
  return 1
end

function commands.get(id)
  if redis.call('EXISTS', record(id)) == 0 or is_expired(place(id), now()) then return {} end
  return redis.call('HGETALL', record(id))
end

-- Goes on behind what has expired, so that only the end of the list makes a page short.
function commands.list(name, before, limit)
  forget_expired(now())
  local jobs = {}
  repeat
    local members = redis.call('ZREVRANGEBYLEX', index(name), before, '-', 'LIMIT', 0, limit - #jobs)
    for _, member in ipairs(members) do
      local fields = commands.get(id_of(member))
      if #fields > 0 then table.insert(jobs, fields) end
      before = '(' .. member
    end
  until #members == 0 or #jobs == tonumber(limit)
  return jobs
end

-- Returns the state in which the job was found, and the record as it is now.
function commands.cancel(id)
  local state = get(id, 'state')
  if state == 'queued' then finish(id, 'canceled') end
  if state == 'running' then redis.call('HSET', record(id), 'cancel_requested', 'true') end
  return {state or '', commands.get(id)}
end

-- Whoever runs the job finds no record, so has lost its lease.
function commands.delete(id)
  if redis.call('EXISTS', record(id)) == 0 then return 0 end
  forget(place(id))
  return 1
end

function commands.depth()
  local delayed = redis.call('ZCARD', DELAYED)
  return {redis.call('ZCARD', index('queued')) - delayed, redis.call('ZCARD', index('running')), delayed}
end

-- the worker's --------------------------------------------------------------------------------------------------------

function commands.setup() ensure_queue() end

-- The stream, and the last entry of it that was handed to any worker.
function commands.tail()
  ensure_queue()
  local group = redis.call('XINFO', 'GROUPS', QUEUE)[1]
  for i = 1, #group, 2 do
    if group[i] == 'last-delivered-id' then return {QUEUE, group[i + 1]} end
  end
end

function commands.claim(token, lease_ms, may_steal, max_attempts, exhausted)
  local at = now()
  ensure_queue()
  forget_expired(at)
  enqueue_due(at)
  local idle = may_steal == '1' and lease_ms or HANDED_BACK_MS
  for _ = 1, BATCH do
    local found = next_entry(idle)
    if not found then return end
    local entry, id = found[1], found[2]
    if not id or get(id, 'entry') ~= entry then
      drop_entry(entry)
    elseif cancel_requested(id) then
      finish(id, 'canceled')
    elseif tonumber(get(id, 'attempts')) >= tonumber(max_attempts) then
      finish(id, 'failed', 'failure', exhausted)
    else
      start(id, token, at)
      return commands.get(id)
    end
  end
end

function commands.beat(id, token)
  if holds(id, token) then
    redis.call('XCLAIM', QUEUE, GROUP, CONSUMER, 0, get(id, 'entry'), 'JUSTID') -- claiming anew resets the idle time
    redis.call('SET', WORKED, now())
  end
  return held(id, token)
end

function commands.pin(id, token, release)
  if holds(id, token) then redis.call('HSET', record(id), 'release', release) end
  return held(id, token)
end

function commands.report(id, token, progress)
  if holds(id, token) then redis.call('HSET', record(id), 'progress', progress) end
  return held(id, token)
end

-- An attempt that lost its lease may still deliver, as long as nobody else has: the first to finish wins.
function commands.succeed(id, token, ...)
  local state = get(id, 'state')
  if not state then return 0 end
  local progress = cjson.decode(get(id, 'progress'))
  progress.stage, progress.percent = 'done', 100
  return conclude(id, token, not is_final(state), 'succeeded', 'progress', cjson.encode(progress), ...)
end

function commands.fail(id, token, failure) return conclude(id, token, holds(id, token), 'failed', 'failure', failure) end

function commands.canceled(id, token) return conclude(id, token, holds(id, token), 'canceled') end

function commands.release(id, token)
  if not holds(id, token) then return 0 end
  uncharge(id)
  hand_back(id)
  return 1
end

-- These two answer with the state they led to, or with nothing when the lease was lost.
function commands.postpone(id, token, deadline_ms, failure)
  if not holds(id, token) then return end
  local at, charged = now(), got_somewhere(id) -- else a job that takes the model down each time would go on for ever
  if charged then redis.call('HDEL', record(id), 'waiting_ms') end
  redis.call('HSETNX', record(id), 'waiting_ms', at)
  if at - get(id, 'waiting_ms') >= tonumber(deadline_ms) then
    finish(id, 'failed', 'failure', failure)
  else
    if not charged then uncharge(id) end
    hand_back(id)
  end
  return get(id, 'state')
end

function commands.retry(id, token, backoff_ms, max_errors, failure)
  if not holds(id, token) then return end
  local errors = redis.call('HINCRBY', record(id), 'errors', 1)
  if errors >= tonumber(max_errors) then
    finish(id, 'failed', 'failure', failure)
  elseif take_back(id) then
    dequeue(id)
    redis.call('ZADD', DELAYED, now() + math.min(backoff_ms * 4 ^ (errors - 1), LONGEST_BACKOFF_MS), id)
  end
  return get(id, 'state')
end

-- Fail what has waited too long for a model, unless some worker was at work meanwhile: then the model answers others.
function commands.fail_stranded(waited_ms, failure)
  local since = now() - waited_ms
  if tonumber(redis.call('GET', WORKED) or 0) > since then return 0 end
  local before, failed = string.format('(%013d', since), 0
  for _, state in ipairs({'queued', 'running'}) do
    for _, member in ipairs(redis.call('ZRANGEBYLEX', index(state), '-', before, 'LIMIT', 0, BATCH)) do
      finish(id_of(member), 'failed', 'failure', failure)
      failed = failed + 1
    end
  end
  return failed
end

-- releases ------------------------------------------------------------------------------------------------------------

function commands.alias(name) return redis.call('HGET', ALIASES, name) end

function commands.default_alias(name, version)
  redis.call('HSETNX', ALIASES, name, version)
  return commands.alias(name)
end

-- The versions that had the alias before this one, the latest first.
function commands.alias_history(name) return redis.call('LRANGE', history(name), 0, -1) end

function commands.promote(name, version)
  local current = commands.alias(name)
  if current == version then return end
  if current then
    redis.call('LPUSH', history(name), current)
    redis.call('LTRIM', history(name), 0, KEEP_VERSIONS - 1)
  end
  redis.call('HSET', ALIASES, name, version)
end

-- Go back to the version before, provided that it is this one. Returns 1 when it was, now or in a call whose reply was lost.
function commands.rollback(name, version)
  if commands.alias(name) == version then return 1 end
  if redis.call('LINDEX', history(name), 0) ~= version then return 0 end
  redis.call('HSET', ALIASES, name, redis.call('LPOP', history(name)))
  return 1
end

return commands[ARGV[1]](unpack(ARGV, 2))
