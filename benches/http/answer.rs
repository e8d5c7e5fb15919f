/// Longer than any answer here (bytes).
const ROOM: usize = 4096;

/// An HTTP message that is being read: a request by the service, an answer by
/// the sender. Framed by Content-Length, as everything here is.
pub struct Answer {
    bytes: Box<[u8; ROOM]>,
    length: usize,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            bytes: Box::new([0; ROOM]),
            length: 0,
        }
    }
}

impl Answer {
    /// Where the next bytes are read to.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.length..]
    }

    /// So many have come. The status once it is whole, and then the next begins.
    pub fn came(&mut self, read: usize) -> Option<u16> {
        self.length += read;
        let (head, body) = split(&self.bytes[..self.length])?;
        if body.len() < content_length(head) {
            assert!(self.length < ROOM, "an answer of more than {ROOM} bytes");
            return None;
        }
        let status = head.get(9..12)?.iter();
        let status = status.fold(0, |status, digit| {
            status * 10 + u16::from(digit.wrapping_sub(b'0'))
        });
        self.length = 0;
        Some(status)
    }
}

/// Head and what is there of the body, once the head is whole.
pub fn split(message: &[u8]) -> Option<(&[u8], &[u8])> {
    const END: &[u8] = b"\r\n\r\n";
    let mut from = 0;
    loop {
        let at = from + message[from..].iter().position(|&byte| byte == b'\r')?;
        if message[at..].starts_with(END) {
            return Some((&message[..at], &message[at + END.len()..]));
        }
        from = at + 1;
    }
}

/// What the head says of the body (bytes).
pub fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let lines = head.split(|&byte| byte == b'\n');
    let value = lines.into_iter().find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    let digits = value.unwrap_or_default().trim_ascii().iter();
    digits.fold(0, |length, digit| {
        length * 10 + usize::from(digit.wrapping_sub(b'0'))
    })
}
