use std::cell::RefCell;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// As `Sun, 06 Nov 1994 08:49:37 GMT` (bytes).
const LENGTH: usize = 29;

/// The date as it was written last.
struct Written {
    /// Seconds since the epoch.
    second: u64,
    text: [u8; LENGTH],
}

thread_local! {
    /// Written once a second and thread: an answer needs nothing finer.
    static WRITTEN: RefCell<Written> = const {
        RefCell::new(Written { second: u64::MAX, text: [b' '; LENGTH] })
    };
}

/// Hands the value of an answer's Date field to `put` (RFC 9110 §6.6.1).
pub(super) fn today(put: impl FnOnce(&[u8])) {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    WRITTEN.with_borrow_mut(|written| {
        if written.second != second {
            // Years have four digits for long, so it fits.
            let _ = write!(&mut written.text[..], "{}", HttpDate::from(now));
            written.second = second;
        }
        put(&written.text);
    });
}
