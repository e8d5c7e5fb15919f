//! hookward: a verifying webhook gateway.
//!
//! A request goes down one straight line, and each stage has a room of its own:
//! pick the source by path ([`source`]), admit the head, read the body and verify
//! ([`verify`]), reserve the id ([`ledger`]), find its type and plan ([`source`],
//! [`route`]), deliver ([`deliver`]), settle and answer ([`gateway`]).
//!
//! A module imports only floors below its own; `tests/architecture.rs` holds that.
//!
//! | floor | modules |
//! |---|---|
//! | 5 | [`cli`] |
//! | 4 | [`app`]: builds, reloads and drains; owns what outlives a reload |
//! | 3 | [`config`]: the document · [`gateway`]: the line · [`admin`]: health, metrics, ledger actions |
//! | 2 | [`listen`] [`source`] [`verify`] [`ledger`] [`consume`] [`route`] [`deliver`] |
//! | 1 | [`amqp`]: connections to a broker |
//! | 0 | [`message`]: what travels · [`key`]: what signs · [`setting`]: what is configured with · [`observe`]: metrics, logs, clock |

pub mod admin;
pub mod amqp;
pub mod app;
pub mod cli;
pub mod config;
pub mod consume;
pub mod deliver;
pub mod gateway;
pub mod key;
pub mod ledger;
pub mod listen;
pub mod message;
pub mod observe;
pub mod route;
pub mod setting;
pub mod source;
pub mod verify;
