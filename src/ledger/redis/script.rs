//! What is done in Redis in one step. Each is Lua that Redis 6 and later and
//! Valkey run; none loops over more than it was given.
//!
//! An id has up to three keys: its record (`value.rs`); `:run`, the lease of who
//! runs it, `0TOKEN BODY SIGNED`, with a `1` in front once somebody waits for it;
//! and `:end`, for a moment, how a run ended that somebody waited for, `TOKEN
//! OUTCOME`. Redis itself forgets each when its time is over.

/// A script, by its place among [`ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Claim,
    Settle,
    Change,
    Renew,
    ForgetSince,
}

/// All of them, in the order of their places.
pub(super) const ALL: [&str; 5] = [CLAIM, SETTLE, CHANGE, RENEW, FORGET_SINCE];

/// What [`CLAIM`] answers with first.
pub(super) const RUN: u8 = 0;
pub(super) const KNOWN: u8 = 1;
pub(super) const RUNNING: u8 = 2;

/// Takes the lease of an id, unless it runs or is final.
///
/// A final record that the caller has seen, and wants to run from all the same,
/// is what it expects. A lease of the caller's own replica is one that it gave
/// up: it holds each id at most once.
///
/// KEYS: record, run. ARGV: lease, its milliseconds, replica, expected record.
const CLAIM: &str = r"
local run = redis.call('GET', KEYS[2])
if run and string.sub(run, 2, 1 + #ARGV[3]) ~= ARGV[3] then
  if string.sub(run, 1, 1) == '0' then redis.call('SETRANGE', KEYS[2], 0, '1') end
  return {2, run}
end
local known = redis.call('GET', KEYS[1])
if known and string.sub(known, 1, 2) ~= '1p' and known ~= ARGV[4] then
  return {1, known}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {0, known}
";

/// Writes a record, unless another was written since the one it was made from;
/// gives the lease back if it is still the caller's, and tells who waits.
/// Answers `{0}`, or `{1, record}` with the one in the way. Without a record only
/// the lease is given back. Done twice it is as if done once.
///
/// KEYS: record, run, end. ARGV: token, expected record, record, its milliseconds,
/// outcome, its milliseconds.
const SETTLE: &str = r"
if ARGV[3] ~= '' then
  local known = redis.call('GET', KEYS[1]) or ''
  if known ~= ARGV[2] and known ~= ARGV[3] then return {1, known} end
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
local run = redis.call('GET', KEYS[2])
if run and ARGV[1] ~= '' and string.sub(run, 2, 2 + #ARGV[1]) == ARGV[1] .. ' ' then
  redis.call('DEL', KEYS[2])
  if string.sub(run, 1, 1) == '1' and ARGV[5] ~= '' then
    redis.call('SET', KEYS[3], ARGV[1] .. ' ' .. ARGV[5], 'PX', ARGV[6])
  end
end
return {0, ''}
";

/// Puts a record in the place of the one that is expected, or none, unless the id
/// runs on another replica. Answers `{0}`, `{1, record}` with another one, or `{2}`
/// when it runs.
///
/// KEYS: record, run. ARGV: expected record, record, its milliseconds, replica.
const CHANGE: &str = r"
local run = redis.call('GET', KEYS[2])
if run and string.sub(run, 2, 1 + #ARGV[4]) ~= ARGV[4] then return {2, ''} end
local known = redis.call('GET', KEYS[1]) or ''
if known ~= ARGV[1] then return {1, known} end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return {0, ''}
";

/// Lengthens leases; one that ended and that nobody took is taken again.
///
/// KEYS: run, … ARGV: milliseconds, then a lease for each key.
const RENEW: &str = r"
for i, key in ipairs(KEYS) do
  local run = redis.call('GET', key)
  if not run then
    redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1])
  elseif string.sub(run, 2) == string.sub(ARGV[i + 1], 2) then
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
return #KEYS
";

/// Forgets those records of a source that were last accepted at a time or later
/// and do not run; answers how many.
///
/// KEYS: record, run, … ARGV: source, time.
const FORGET_SINCE: &str = r"
local forgotten = 0
for i = 1, #KEYS, 2 do
  local known = redis.call('GET', KEYS[i])
  if known then
    local first, after, source = string.match(known, '^1%a %S+ %d+ (%d+) (%d+) %d+ (%S+)')
    if source == ARGV[1] and tonumber(first) + tonumber(after) >= tonumber(ARGV[2])
      and redis.call('EXISTS', KEYS[i + 1]) == 0 then
      forgotten = forgotten + redis.call('DEL', KEYS[i])
    end
  end
end
return forgotten
";
