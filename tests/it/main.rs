//! hookward's promises, tested on real sockets against the real binary. One file
//! per promise; what they share is in `support`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot go on is to fail where it stands"
)]
#![allow(
    unreachable_pub,
    reason = "one binary; nothing is reachable from outside"
)]

mod support;

mod admin;
mod answers;
mod bounds;
mod cli;
mod configuration;
mod crowds;
mod durable_bridge;
mod faults;
mod file_destination;
mod hang_up;
mod http_destination;
mod journal;
mod logs;
mod queue_source;
mod rabbitmq;
mod rabbitmq_hostile;
mod rabbitmq_script;
mod redis;
mod redis_away;
mod reload;
mod reload_at_odds;
mod reload_outside;
mod rolling;
mod routing;
mod same_id;
mod sdk;
mod stop;
mod verification;
mod watching;
