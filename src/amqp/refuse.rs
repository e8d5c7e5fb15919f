//! Refuses what no broker says before lapin reads it. The connection is then lost, and
//! why is told.

use std::io;

/// What only a client says, and what carries a table: its class and method. lapin would
/// read such a table, however deep, before it complains.
const CLIENTS: [(u16, u16); 8] = [
    // connection.start-ok
    (10, 11),
    // exchange.declare, bind and unbind
    (40, 10),
    (40, 30),
    (40, 40),
    // queue.declare, bind and unbind
    (50, 10),
    (50, 20),
    (50, 50),
    // basic.consume
    (60, 20),
];

/// Looks at a method.
///
/// # Errors
/// In words, when only a client says it.
pub(super) fn method(payload: &[u8]) -> io::Result<()> {
    let &[a, b, c, d, ..] = payload else {
        // What is cut off is lapin's to complain of.
        return Ok(());
    };
    let (class, method) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match CLIENTS.contains(&(class, method)) {
        true => Err(refused(format!(
            "it said what only a client says (method {class}.{method})"
        ))),
        false => Ok(()),
    }
}

/// The longest message that is taken (bytes): what RabbitMQ takes where nobody sets
/// `max_message_size`, 16 MiB since 4.0. lapin gathers a message whole before anybody
/// can look at it, however long it is said to be.
const LONGEST: u64 = 128 * 1024 * 1024;

/// Looks at the header of a message.
///
/// # Errors
/// In words, when the message is too long.
pub(super) fn header(payload: &[u8]) -> io::Result<()> {
    // Class and weight, and then the size of the body.
    let size = payload.get(4..).and_then(<[u8]>::first_chunk);
    match size.map(|size| u64::from_be_bytes(*size)) {
        Some(size) if size > LONGEST => Err(refused(format!(
            "it began a message of {size} bytes; at most {LONGEST} are taken"
        ))),
        // What is cut off is lapin's to complain of.
        _ => Ok(()),
    }
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_client_says_is_refused_in_words() {
        for (class, number) in CLIENTS {
            let [[a, b], [c, d]] = [class, number].map(u16::to_be_bytes);
            let refused = method(&[a, b, c, d, 0]).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
            let number = format!("only a client says (method {class}.{number})");
            assert!(refused.to_string().contains(&number), "{refused}");
        }
    }

    #[test]
    fn a_message_is_not_begun_that_is_longer_than_any() {
        let begun =
            |size: u64| header(&[&[0, 60, 0, 0], &size.to_be_bytes()[..], b"\0\0"].concat());
        assert!(begun(0).is_ok() && begun(LONGEST).is_ok());
        for size in [LONGEST + 1, 1 << 40, u64::MAX] {
            let refused = begun(size).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
            let words = format!("a message of {size} bytes; at most 134217728");
            assert!(refused.to_string().contains(&words), "{refused}");
        }
        assert!(header(&[0, 60, 0, 0, 0xff, 0xff]).is_ok());
    }

    #[test]
    fn what_a_broker_says_is_not_refused_and_what_is_cut_off_is_lapins() {
        // connection.start, queue.declare-ok, basic.deliver.
        for said in [&[0, 10, 0, 10][..], &[0, 50, 0, 11], &[0, 60, 0, 60, 1]] {
            assert!(method(said).is_ok());
        }
        for length in 0..4 {
            assert!(method(&[0, 50, 0, 10][..length]).is_ok());
        }
    }
}
