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
