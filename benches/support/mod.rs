//! What every measurement needs: a generator that costs little, what a process
//! has used, and figures that hold when the machine does not. Servers and signed
//! messages are those of the tests.

mod figures;
mod generator;
mod process;

#[allow(dead_code, unused_imports, reason = "the tests need more of it")]
#[path = "../../tests/it/support/mod.rs"]
mod tests;

pub use figures::{Figures, Sample};
pub use generator::Generator;
pub use process::cpu_time;
pub use tests::{Broker, Gateway, Message};
