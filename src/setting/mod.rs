//! What a configuration is written in: values with units, names, secrets by
//! reference, and the problems a reader finds.
//!
//! A module that owns a section of the file reads it from a [`Section`], which
//! collects every problem instead of stopping at the first, reports keys it was
//! not asked for, and never prints a value.

mod authorities;
mod entry;
mod escaped;
mod name;
mod problems;
mod reader;
mod secret;
mod section;
mod trust;
mod url;
mod value;

pub use authorities::{Ca, ca, handshake_failed, trusting};
pub use entry::Entry;
pub use escaped::Escaped;
pub use name::Name;
pub use problems::{Place, Problem, Problems, Severity};
pub use reader::Reader;
pub use secret::{Secret, SecretReader, SecretSource, shown_path};
pub use section::Section;
pub use url::SafeUrl;
pub use value::{ByteSize, OffOr, Setting};
