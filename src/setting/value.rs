use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Entry;
use super::secret::is_no_path;

/// A value that can be read from the configuration.
pub trait Setting: Sized {
    /// How it is written, for the hint beside a problem.
    const FORM: &'static str;

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence that begins with the key, and
    /// without the value.
    fn read(entry: &Entry<'_>) -> Result<Self, String>;
}

impl Setting for String {
    const FORM: &'static str = "write it in quotes";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        entry.text().ok_or_else(|| "is not a text".into())
    }
}

impl Setting for bool {
    const FORM: &'static str = "`true` or `false`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        entry
            .truth()
            .ok_or_else(|| "is neither true nor false".into())
    }
}

macro_rules! whole_number {
    ($($int:ty),*) => {$(
        impl Setting for $int {
            const FORM: &'static str = "a whole number, as in `256`";

            fn read(entry: &Entry<'_>) -> Result<Self, String> {
                entry
                    .integer()
                    .ok_or("is not a whole number")?
                    .try_into()
                    .map_err(|_| "is out of range".into())
            }
        }
    )*};
}
whole_number!(u16, u32, u64, usize);

/// A century: longer than any wait meant, short enough to add to any instant.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Setting for Duration {
    const FORM: &'static str =
        "a duration is a number and a unit: `\"100ms\"`, `\"5s\"`, `\"2m\"`, `\"34h\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        let text = entry.text().ok_or("is not a duration")?;
        match humantime::parse_duration(text.trim()) {
            Ok(duration) if duration <= LONGEST => Ok(duration),
            Ok(_) => Err("is longer than a century".into()),
            Err(_) => Err("is not a duration".into()),
        }
    }
}

/// A number of bytes, written `"64 KiB"`, `"1 MiB"` or as a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` times 1024 bytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` times 1024² bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// As a size in memory (bytes).
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_');
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        let number: u64 = number.replace('_', "").parse().ok()?;
        number.checked_mul(factor).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in units {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl Setting for ByteSize {
    const FORM: &'static str = "a size is a number and a unit: `\"64 KiB\"`, `\"1 MiB\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        let size = match entry.integer() {
            Some(number) => u64::try_from(number).ok().map(Self),
            None => entry.text().as_deref().and_then(Self::parse),
        };
        size.ok_or_else(|| "is not a size".into())
    }
}

impl Setting for SocketAddr {
    const FORM: &'static str = "an address and a port, as in `\"0.0.0.0:8080\"`";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        entry
            .text()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| "is not an address and a port".into())
    }
}

impl Setting for ipnet::IpNet {
    const FORM: &'static str = "a network in CIDR form, as in `\"10.0.0.0/8\"`, or one address";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        let text = entry.text().ok_or("is not a network")?;
        let text = text.trim();
        text.parse()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from))
            .map(canonical)
            .map_err(|_| "is not a network".into())
    }
}

/// A network of IPv4 addresses that is written as one of IPv6 is what it stands for:
/// that is how senders' addresses are compared.
fn canonical(network: ipnet::IpNet) -> ipnet::IpNet {
    let mapped = network.network().to_canonical();
    match (mapped, network.prefix_len().checked_sub(96)) {
        (std::net::IpAddr::V4(_), Some(length)) => {
            ipnet::IpNet::new(mapped, length.min(32)).unwrap_or(network)
        }
        _ => network,
    }
}

/// A path in the file is relative to the file's folder.
impl Setting for PathBuf {
    const FORM: &'static str = "a path, relative to the folder of the configuration file";

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        match entry.text() {
            Some(text) if !text.trim().is_empty() => {
                let path = entry.base().join(text);
                // Whoever speaks of a path shows it.
                match is_no_path(&path) {
                    true => Err("is not a path; it is not shown, as it may be a secret".into()),
                    false => Ok(path),
                }
            }
            _ => Err("is not a path".into()),
        }
    }
}

/// A value, or the word `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffOr<T> {
    /// `"off"`
    Off,
    /// The value.
    On(T),
}

impl<T> OffOr<T> {
    /// The value, unless off.
    pub fn on(self) -> Option<T> {
        match self {
            OffOr::Off => None,
            OffOr::On(value) => Some(value),
        }
    }
}

impl<T: Setting> Setting for OffOr<T> {
    const FORM: &'static str = T::FORM;

    fn read(entry: &Entry<'_>) -> Result<Self, String> {
        match entry.text() {
            Some(text) if text == "off" => Ok(OffOr::Off),
            _ => T::read(entry)
                .map(OffOr::On)
                .map_err(|e| format!("{e}, nor \"off\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        for (written, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("fd00::/8", "fd00::/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(canonical(written.parse().unwrap()), meant.parse().unwrap());
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("64 KiB", 65_536),
            ("1MiB", 1_048_576),
            ("7", 7),
            ("1_000 B", 1_000),
            ("2 kB", 2_000),
        ] {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
        }
        for text in ["", "KiB", "1.5 MiB", "-1", "99999999999 GiB", "1 parsec"] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_printed_in_its_largest_whole_unit() {
        assert_eq!(ByteSize::mib(256).to_string(), "256 MiB");
        assert_eq!(ByteSize(1025).to_string(), "1025 B");
    }
}
