--[[ Every Redis key of jobs and releases, and every change of a job's state. Those of webhook deliveries are in `deliveries.lua`.

    mien:job:<id>          hash    the record: the fields of shared.jobs.Job (text as it is, everything else as JSON), and
                                     entry        the entry of mien:leases that stands for the job since a worker was given it
                                     lease        token of the attempt that holds the job, or that ended it: its result counts
                                     errors       attempts that ended in an error worth another try
                                     crashes      attempts whose decoder died of the video
                                     revision     grows with every change that a client can see, also over a Redis that lost its data
                                     waiting_ms   when the job was first handed back for no fault of its own, since it last got somewhere
                                     accepted_ms  when the job came to be known here
                                     key, fingerprint   those of shared.idempotency, when the request had a key
    mien:waiting:<tenant>  zset    jobs that no worker was given since they were queued: id by number, the lowest is next
    mien:turns             zset    the tenants that have such jobs, by the number of their turn, the lowest is next
    mien:number            string  the last number of either kind
    mien:arrivals          stream  its one entry is the last job that began to wait: what idle workers listen to
    mien:leases            stream  one entry per job that is running, or was handed back. Consumer group `workers`: every entry
                                   is pending, and its idle time there is the age of the holder's last beat
    mien:delayed           zset    id by the time at which the job is tried again; such a job is `queued`, but waits nowhere else
    mien:jobs:all          zset    every job as "<created_ms> <id>"; all scores are 0, so the order is that of acceptance
    mien:jobs:<state>      zset    the same, one set per state
    mien:jobs:<tenant>:all, mien:jobs:<tenant>:<state>    the same, of one tenant
    mien:queued_bytes      string  size of the videos of all queued jobs
    mien:ended             zset    final jobs whose folder is still to be tidied: id by the time of the end
    mien:expires           zset    final jobs, as in mien:jobs:all, by the time at which they are forgotten
    mien:announcements     zset    final jobs of whose end nobody was told yet: id by the time at which to see to it. `deliveries.lua` does
    mien:deliveries        zset    of that script
    mien:announced:<id>    set     the deliveries about a job, each of them a hash mien:delivery:<id> of that script
    mien:gone:<id>         string  for a while: whose a job was that was deleted or forgotten, and nothing else about it
    mien:generation        string  names the data that this Redis has: another one is another life, begun with nothing
    mien:deleted:<id>      string  for an hour: whoever read the job's manifest before it was deleted must not bring it back
    mien:idempotency:<key> hash    holder: the request that is being answered, or id and fingerprint: the job that it made
    mien:worked            string  when a worker last held a lease; a time that is yet to come says that the clock was set back, and
                                   then this is the latest that it can have been
    mien:aliases           hash    champion, canary, shadow -> version of a release
    mien:alias:<name>      list    versions that had the alias before, the latest first

                          .------ release, postpone, leave, retry ------.
                          v                                             |
    submit, restore -> queued ---------------- claim ------------> running (claimed again when its lease runs out)
                          |                                             |
                          '- cancel -> canceled      succeed, fail, canceled -> succeeded, failed, canceled

Tenants take turns: a claim takes the longest waiting job of the tenant whose turn it is, who then goes to the end of the round,
where a tenant also begins. Only what was handed back, or whose worker fell silent, goes before: it has had its turn.

All times are Unix milliseconds of Redis's own clock, but for created_ms, which the gateway wrote and which orders lists, nothing
else. The whole file is one script: the first argument names the command, and no other command runs in between (Redis does not
roll back, so a command checks before it writes). The keys are not declared to Redis, so a cluster is no place for them. ]]

local LEASES, GROUP, CONSUMER = 'mien:leases', 'workers', 'worker'
local TURNS, NUMBER, ARRIVALS = 'mien:turns', 'mien:number', 'mien:arrivals'
local DELAYED, QUEUED_BYTES = 'mien:delayed', 'mien:queued_bytes'
local ENDED, EXPIRES, WORKED, ALIASES = 'mien:ended', 'mien:expires', 'mien:worked', 'mien:aliases'
local ANNOUNCEMENTS, DELIVERIES = 'mien:announcements', 'mien:deliveries'
local GENERATION = 'mien:generation'
local WAITING = '{"stage":"waiting"}'
local KEEP_MS = 7 * 24 * 3600 * 1000
local HANDED_BACK_MS = 30 * 24 * 3600 * 1000 -- the idle time of an entry that was handed back: free for anyone at any time
local LONGEST_BACKOFF_MS = 10 * 60 * 1000
local KEEP_VERSIONS = 20                     -- of an alias's history
local BATCH = 100                            -- how much one call tidies up, so that none takes long
local TOMBSTONE_MS = 3600 * 1000
local SET_BACK_MS = 1000                     -- less is a clock that is put right by and by, and no reason to look through anything
local GONE_MS = 7 * 24 * 3600 * 1000

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function record(id) return 'mien:job:' .. id end
local function waiting(tenant) return 'mien:waiting:' .. tenant end
local function announced(id) return 'mien:announced:' .. id end
local function delivery(id) return 'mien:delivery:' .. id end
local function tombstone(id) return 'mien:deleted:' .. id end
local function gone(id) return 'mien:gone:' .. id end
local function idempotency(key) return 'mien:idempotency:' .. key end
local function index(name) return 'mien:jobs:' .. name end
local function history(name) return 'mien:alias:' .. name end
local function get(id, field) return redis.call('HGET', record(id), field) end
local function place(id) return string.format('%013d %s', get(id, 'created_ms'), id) end
local function id_of(member) return string.sub(member, 15) end

local function is_final(state) return state == 'succeeded' or state == 'failed' or state == 'canceled' end
local function holds(id, token) return get(id, 'state') == 'running' and get(id, 'lease') == token end
local function cancel_requested(id) return get(id, 'cancel_requested') == 'true' end

local function exists(key) return redis.call('EXISTS', key) == 1 end
local function next_number() return redis.call('INCR', NUMBER) end

-- The stream never exists without its group: whoever needs either makes both, also after a Redis that lost its data.
local function ensure_leases()
  if not exists(LEASES) then redis.call('XGROUP', 'CREATE', LEASES, GROUP, '0', 'MKSTREAM') end
end

local function enqueue(id)
  local number, tenant = next_number(), get(id, 'tenant')
  redis.call('ZADD', waiting(tenant), number, id)
  redis.call('ZADD', TURNS, 'NX', number, tenant)
  redis.call('XADD', ARRIVALS, 'MAXLEN', 1, '*', 'number', number)
end

local function drop_entry(entry)
  redis.call('XACK', LEASES, GROUP, entry)
  redis.call('XDEL', LEASES, entry)
end

local function dequeue(id)
  local entry, tenant = get(id, 'entry'), get(id, 'tenant')
  if entry then drop_entry(entry) end
  redis.call('HDEL', record(id), 'entry')
  redis.call('ZREM', DELAYED, id)
  redis.call('ZREM', waiting(tenant), id)
  if not exists(waiting(tenant)) then redis.call('ZREM', TURNS, tenant) end
end

-- A list of jobs and its tenant's part of it.
local function lists(id, name) return {index(name), index(get(id, 'tenant') .. ':' .. name)} end
local function enlist(id, name) for _, key in ipairs(lists(id, name)) do redis.call('ZADD', key, 0, place(id)) end end
local function delist(id, name) for _, key in ipairs(lists(id, name)) do redis.call('ZREM', key, place(id)) end end

local function leave_state(id)
  local state = get(id, 'state')
  delist(id, state)
  if state ~= 'queued' then return end
  redis.call('DECRBY', QUEUED_BYTES, get(id, 'size_bytes'))
  if not exists(index('queued')) then redis.call('DEL', QUEUED_BYTES) end
end

-- The clock keeps a revision above all that were given out before data was lost.
local function changed(id)
  redis.call('HSET', record(id), 'revision', math.max(now(), (get(id, 'revision') or 0) + 1))
end

local function enter_first(id, state)
  enlist(id, state)
  if state == 'queued' then redis.call('INCRBY', QUEUED_BYTES, get(id, 'size_bytes')) end
  redis.call('HSET', record(id), 'state', state)
  changed(id)
end

-- The one place where a state is changed.
local function enter(id, state)
  leave_state(id)
  enter_first(id, state)
end

local function to_be_tidied(id, at) redis.call('ZADD', ENDED, at, id) end

-- What becomes of a final job: whoever asked for it is told, its folder is tidied soon, and in some days it is forgotten.
local function schedule_end(id, ended_ms)
  redis.call('ZADD', ANNOUNCEMENTS, now(), id)
  to_be_tidied(id, ended_ms)
  redis.call('ZADD', EXPIRES, ended_ms + KEEP_MS, place(id))
end

local function finish(id, state, ...)
  local at = now()
  dequeue(id)
  redis.call('HSET', record(id), 'ended_ms', at, ...)
  enter(id, state)
  schedule_end(id, at)
end

local function forget(id)
  local key, member = get(id, 'key'), place(id)
  dequeue(id)
  leave_state(id)
  delist(id, 'all')
  redis.call('ZREM', EXPIRES, member)
  redis.call('ZREM', ENDED, id)
  redis.call('ZREM', ANNOUNCEMENTS, id)
  for _, name in ipairs(redis.call('SMEMBERS', announced(id))) do redis.call('DEL', delivery(name)) end
  redis.call('DEL', announced(id))
  if key and redis.call('HGET', idempotency(key), 'id') == id then redis.call('DEL', idempotency(key)) end
  redis.call('DEL', record(id))
end

-- Whether a job is to be forgotten by now. It is unknown from then on, though it may take some calls until it is gone.
local function is_expired(member, at)
  local due = redis.call('ZSCORE', EXPIRES, member)
  return due and tonumber(due) <= at
end

-- A job of this tenant, or of any when that is ''.
local function is_known(id, tenant)
  if not exists(record(id)) or is_expired(place(id), now()) then return false end
  return tenant == '' or get(id, 'tenant') == tenant
end

local function mourn(id) redis.call('SET', gone(id), get(id, 'tenant'), 'PX', GONE_MS) end

local function forget_expired(at)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', EXPIRES, '-inf', at, 'LIMIT', 0, BATCH)) do
    mourn(id_of(member))
    forget(id_of(member))
  end
end

-- Why a job is not known: 'gone' to a tenant who had it once, '' to everybody else.
local function absence(id, tenant)
  local whose = get(id, 'tenant') or redis.call('GET', gone(id))
  return whose and (tenant == '' or tenant == whose) and 'gone' or ''
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
    redis.call('XCLAIM', LEASES, GROUP, CONSUMER, 0, get(id, 'entry'), 'IDLE', HANDED_BACK_MS, 'JUSTID')
  end
end

local function delay(id, wait_ms)
  dequeue(id)
  redis.call('ZADD', DELAYED, now() + wait_ms, id)
end

-- For how long the job has been handed back and got nowhere, which begins now if it was not. Never less than 0, though the clock was
-- set back.
local function waited_ms(id)
  local at = now()
  local since = math.min(at, get(id, 'waiting_ms') or at)
  redis.call('HSET', record(id), 'waiting_ms', since)
  return at - since
end

-- The next waiting job of the tenant whose turn it is, put among the leases: {entry, id}, or nil when nobody waits.
local function next_waiting()
  local tenant = redis.call('ZRANGE', TURNS, 0, 0)[1]
  if not tenant then return end
  local id = redis.call('ZPOPMIN', waiting(tenant))[1]
  redis.call('ZREM', TURNS, tenant)
  if exists(waiting(tenant)) then redis.call('ZADD', TURNS, next_number(), tenant) end
  local entry = redis.call('XADD', LEASES, '*', 'id', id)
  redis.call('HSET', record(id), 'entry', entry)
  redis.call('XREADGROUP', 'GROUP', GROUP, CONSUMER, 'COUNT', 1, 'STREAMS', LEASES, '>') -- which makes it pending
  return {entry, id}
end

-- The oldest entry without a beat for `idle` ms, else a waiting job's: {entry, id}, or nil when there is none.
-- XPENDING IDLE looks at every pending entry; XAUTOCLAIM COUNT 1 would look at ten, and miss what is behind them.
local function next_entry(idle)
  local stale = redis.call('XPENDING', LEASES, GROUP, 'IDLE', idle, '-', '+', 1)[1]
  if not stale then return next_waiting() end
  local claimed = redis.call('XCLAIM', LEASES, GROUP, CONSUMER, idle, stale[1])[1]
  return {stale[1], claimed and claimed[2][2]}
end

-- What was to happen by a clock that has been set back since would wait until that comes round again: jobs for their next try, ends
-- for being told and tidied, deliveries, and the lease of a holder that has died since it last beat. Ages of leases then begin anew.
local function set_back(ahead_ms, at)
  for _, key in ipairs({DELAYED, ENDED, ANNOUNCEMENTS, DELIVERIES}) do
    local later = redis.call('ZRANGEBYSCORE', key, '(' .. at, '+inf', 'WITHSCORES')
    for i = 1, #later, 2 do redis.call('ZADD', key, later[i + 1] - ahead_ms, later[i]) end
  end
  if not exists(LEASES) then return end
  local pending = redis.call('XPENDING', LEASES, GROUP)[1]
  for _, lease in ipairs(redis.call('XPENDING', LEASES, GROUP, '-', '+', pending)) do
    if lease[3] == 0 then redis.call('XCLAIM', LEASES, GROUP, CONSUMER, 0, lease[1], 'IDLE', 0, 'JUSTID') end
  end
end

-- Where a worker held a lease later than now, the clock was set back, by that much at least.
local function notice(at)
  local ahead_ms = tonumber(redis.call('GET', WORKED) or 0) - at
  if ahead_ms <= SET_BACK_MS then return end
  set_back(ahead_ms, at)
  redis.call('DECRBY', WORKED, ahead_ms) -- as all the others, and so once
end

local function worked(at) -- a worker holds a lease, now
  notice(at)
  redis.call('SET', WORKED, at)
end

local function start(id, token, at)
  redis.call('HINCRBY', record(id), 'attempts', 1) -- before the job runs, and in one step with the claim: deaths count
  redis.call('HDEL', record(id), 'release')
  redis.call('HSET', record(id), 'lease', token, 'started_ms', at, 'progress', WAITING)
  worked(at)
  enter(id, 'running')
end

local function held(id, token) -- the answer to a beat or a report
  if not holds(id, token) then return 'lost' end
  if cancel_requested(id) then return 'cancel' end
  return 'held'
end

local function show(id, token, field, value) -- of a running job, to its client
  if holds(id, token) then
    redis.call('HSET', record(id), field, value)
    changed(id)
  end
  return held(id, token)
end

-- End a job once: 1 when this attempt did it, now or in a call whose reply was lost; 0 when it may not.
local function conclude(id, token, allowed, state, ...)
  if get(id, 'state') == state and get(id, 'lease') == token then return 1 end
  if not allowed then return 0 end
  finish(id, state, 'lease', token, ...)
  return 1
end

local function as_table(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end

-- Which limit keeps a further job of this tenant out: 'full', 'quota', or nil.
local function refusal(tenant, size_bytes, most_jobs, most_bytes, most_of_tenant)
  local bytes = tonumber(redis.call('GET', QUEUED_BYTES) or 0) + size_bytes
  if redis.call('ZCARD', index('queued')) >= tonumber(most_jobs) or bytes > tonumber(most_bytes) then return 'full' end
  if redis.call('ZCARD', index(tenant .. ':queued')) >= tonumber(most_of_tenant) then return 'quota' end
end

-- Take a job into the books. Its fields are written as they are, so a job that is final stays so.
local function admit(job, ...)
  local id, at = job.id, now()
  redis.call('HSET', record(id), 'accepted_ms', at, ...)
  enlist(id, 'all')
  enter_first(id, job.state)
  if is_final(job.state) then schedule_end(id, tonumber(job.ended_ms)) else enqueue(id) end
  if job.key then
    redis.call('DEL', idempotency(job.key))
    redis.call('HSET', idempotency(job.key), 'id', id, 'fingerprint', job.fingerprint)
    redis.call('PEXPIRE', idempotency(job.key), KEEP_MS)
  end
end

local commands = {}

-- the gateway's -------------------------------------------------------------------------------------------------------

-- Returns what came of it, and the id of the job that stands for the request.
function commands.submit(id, most_jobs, most_bytes, most_of_tenant, ...)
  forget_expired(now())
  if exists(record(id)) then return {'standing', id} end
  local job = as_table({...})
  local earlier = job.key and redis.call('HGET', idempotency(job.key), 'id')
  if earlier then
    local same = redis.call('HGET', idempotency(job.key), 'fingerprint') == job.fingerprint
    return {same and 'standing' or 'reused', earlier}
  end
  local refused = refusal(job.tenant, job.size_bytes, most_jobs, most_bytes, most_of_tenant)
  if refused then return {refused, ''} end
  admit(job, ...)
  return {'standing', id}
end

function commands.room(tenant, ...) return refusal(tenant, ...) end

-- One request at a time answers to a key; none does any more once a job stands for it. 0 when another request is at it.
function commands.hold_key(key, holder, lease_ms)
  if redis.call('HEXISTS', idempotency(key), 'id') == 1 then return 1 end
  redis.call('HSETNX', idempotency(key), 'holder', holder)
  if redis.call('HGET', idempotency(key), 'holder') ~= holder then return 0 end
  redis.call('PEXPIRE', idempotency(key), lease_ms)
  return 1
end

function commands.drop_key(key, holder)
  if redis.call('HGET', idempotency(key), 'holder') == holder then redis.call('DEL', idempotency(key)) end
end

-- The record, or the one word of why there is none.
function commands.get(id, tenant)
  if not is_known(id, tenant) then return {absence(id, tenant)} end
  return redis.call('HGETALL', record(id))
end

-- What each job's record has come to, '' for those that are not known to the service.
function commands.revisions(...)
  local revisions = {}
  for i, id in ipairs({...}) do revisions[i] = is_known(id, '') and (get(id, 'revision') or '0') or '' end
  return revisions
end

-- Goes on behind what has expired, so that only the end of the list makes a page short.
function commands.list(tenant, name, before, limit)
  forget_expired(now())
  local whose, jobs = tenant == '' and '' or tenant .. ':', {}
  repeat
    local members = redis.call('ZREVRANGEBYLEX', index(whose .. name), before, '-', 'LIMIT', 0, limit - #jobs)
    for _, member in ipairs(members) do
      if is_known(id_of(member), tenant) then table.insert(jobs, commands.get(id_of(member), tenant)) end
      before = '(' .. member
    end
  until #members == 0 or #jobs == tonumber(limit)
  return jobs
end

-- Returns the state in which the job was found, and the record as it is now.
function commands.cancel(id, tenant)
  if not is_known(id, tenant) then return {'', commands.get(id, tenant)} end
  local state = get(id, 'state')
  if state == 'queued' then finish(id, 'canceled') end
  if state == 'running' then
    redis.call('HSET', record(id), 'cancel_requested', 'true')
    changed(id)
  end
  return {state, commands.get(id, tenant)}
end

-- Whoever runs the job finds no record, so has lost its lease. Returns nothing, or why there was no job.
function commands.delete(id, tenant)
  local known, why_not = exists(record(id)), absence(id, tenant)
  if known and why_not == '' then return '' end
  redis.call('SET', tombstone(id), '', 'PX', TOMBSTONE_MS)
  if not known then return why_not end
  mourn(id)
  forget(id)
end

function commands.depth()
  local delayed = redis.call('ZCARD', DELAYED)
  local oldest = redis.call('ZRANGE', index('queued'), 0, 0)[1]
  local age_ms = oldest and math.max(0, now() - get(id_of(oldest), 'accepted_ms')) or 0
  return {redis.call('ZCARD', index('queued')) - delayed, redis.call('ZCARD', index('running')), delayed, age_ms}
end

-- the worker's --------------------------------------------------------------------------------------------------------

function commands.setup() ensure_leases() end

-- What to listen to for the next arrival, and after which entry: any at all when somebody waits already.
function commands.tail()
  local last = redis.call('XREVRANGE', ARRIVALS, '+', '-', 'COUNT', 1)[1]
  return {ARRIVALS, last and not exists(TURNS) and last[1] or '0-0'}
end

function commands.claim(token, lease_ms, may_steal, max_attempts, exhausted)
  local at = now()
  ensure_leases()
  notice(at)
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
      return commands.get(id, '')
    end
  end
end

function commands.beat(id, token)
  if holds(id, token) then
    redis.call('XCLAIM', LEASES, GROUP, CONSUMER, 0, get(id, 'entry'), 'JUSTID') -- claiming anew resets the idle time
    worked(now())
  end
  return held(id, token)
end

function commands.pin(id, token, release)
  return show(id, token, 'release', release)
end

function commands.report(id, token, progress)
  return show(id, token, 'progress', progress)
end

-- An attempt that lost its lease may still deliver, as long as nobody else has: the first to finish wins. What another one
-- brings has made a file, so the folder is tidied once more.
function commands.succeed(id, token, ...)
  local state = get(id, 'state')
  if not state then return 0 end
  if is_final(state) and get(id, 'lease') ~= token then to_be_tidied(id, now()) end
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

-- These three answer with the state they led to, or with nothing when the lease was lost.
function commands.postpone(id, token, deadline_ms, failure)
  if not holds(id, token) then return end
  local charged = got_somewhere(id) -- else a job that takes the model down each time would go on for ever
  if charged then redis.call('HDEL', record(id), 'waiting_ms') end
  if waited_ms(id) >= tonumber(deadline_ms) then
    finish(id, 'failed', 'failure', failure)
  else
    if not charged then uncharge(id) end
    hand_back(id)
  end
  return get(id, 'state')
end

-- Another worker may know what was asked for. Until then the job keeps out of the way of those that this one can do.
function commands.leave(id, token, wait_ms, deadline_ms, failure)
  if not holds(id, token) then return end
  if waited_ms(id) >= tonumber(deadline_ms) then
    finish(id, 'failed', 'failure', failure)
  else
    uncharge(id)
    if take_back(id) then delay(id, wait_ms) end
  end
  return get(id, 'state')
end

-- `count` names the counter of the record that may reach `most`.
function commands.retry(id, token, count, backoff_ms, most, failure)
  if not holds(id, token) then return end
  local errors = redis.call('HINCRBY', record(id), count, 1)
  if errors >= tonumber(most) then
    finish(id, 'failed', 'failure', failure)
  elseif take_back(id) then
    delay(id, math.min(backoff_ms * 4 ^ (errors - 1), LONGEST_BACKOFF_MS))
  end
  return get(id, 'state')
end

-- Fail what has waited too long for a model, unless some worker was at work meanwhile: then the model answers others.
function commands.fail_stranded(waited_ms, failure)
  local since, failed = now() - waited_ms, 0
  if tonumber(redis.call('GET', WORKED) or 0) > since then return 0 end
  for _, state in ipairs({'queued', 'running'}) do
    for _, member in ipairs(redis.call('ZRANGE', index(state), 0, BATCH - 1)) do
      local id = id_of(member)
      if tonumber(get(id, 'accepted_ms')) <= since then
        finish(id, 'failed', 'failure', failure)
        failed = failed + 1
      end
    end
  end
  return failed
end

-- upkeep: keeping the folders and this in step ------------------------------------------------------------------------

-- The state of each job, '' for those that are not known.
function commands.states(...)
  local states = {}
  for i, id in ipairs({...}) do states[i] = is_known(id, '') and get(id, 'state') or '' end
  return states
end

-- Take a job back into the books as its folder tells it. Returns what became of it, or why it is not to be kept.
function commands.restore(id, ...)
  local job = as_table({...})
  local final = is_final(job.state)
  if exists(tombstone(id)) then return 'deleted' end
  if final and job.ended_ms + KEEP_MS <= now() then return 'expired' end
  if exists(record(id)) then
    if not final or is_final(get(id, 'state')) then return 'known' end
    forget(id) -- and with it the attempt that repeats what was done
  end
  local standing = job.key and redis.call('HGET', idempotency(job.key), 'id')
  if standing and standing ~= id then return 'repeated' end
  admit(job, ...)
  return 'restored'
end

function commands.generation(new)
  redis.call('SET', GENERATION, new, 'NX')
  return redis.call('GET', GENERATION)
end

-- Final jobs whose folder is to be tidied, if they ended at least `ago_ms` ago: {when it fell due, record} each. What is past its time
-- is forgotten on the way, by a gateway, since a worker's user of Redis has no business with the deliveries that go along.
function commands.ended(ago_ms)
  forget_expired(now())
  local found, jobs = redis.call('ZRANGEBYSCORE', ENDED, '-inf', now() - ago_ms, 'WITHSCORES', 'LIMIT', 0, BATCH), {}
  for i = 1, #found, 2 do table.insert(jobs, {found[i + 1], redis.call('HGETALL', record(found[i]))}) end
  return jobs
end

-- Nothing is left to tidy, unless a losing attempt has delivered since.
function commands.tidied(id, due)
  if redis.call('ZSCORE', ENDED, id) == due then redis.call('ZREM', ENDED, id) end
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
