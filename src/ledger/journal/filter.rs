use crate::ledger::claim::IdDigest;

/// Tells of most ids that they are not there, without a look at the disk: Bloom
/// filters in memory, two bytes an id, which err for one in some thousand.
///
/// It grows by further filters, each four times the last up to a million ids, so
/// that a quiet source costs little and nothing is ever built again.
#[derive(Default)]
pub(super) struct Filter {
    parts: Vec<Part>,
}

struct Part {
    words: Box<[u64]>,
    /// How many more ids it has room for.
    room: usize,
}

const FIRST: usize = 1 << 16;
const LARGEST: usize = 1 << 20;
const BITS_AN_ID: usize = 16;
/// Near the best for 16 bits an id, which is 11, at less cost.
const PROBES: u64 = 8;

impl Filter {
    pub(super) fn add(&mut self, id: IdDigest) {
        if self.parts.last().is_none_or(|part| part.room == 0) {
            let last = self
                .parts
                .last()
                .map(|part| part.words.len() * 64 / BITS_AN_ID);
            let next = last.map_or(FIRST, |last| (last * 4).min(LARGEST));
            self.parts.push(Part {
                words: vec![0; next * BITS_AN_ID / 64].into(),
                room: next,
            });
        }
        if let Some(part) = self.parts.last_mut() {
            part.room -= 1;
            for (word, bit) in part.places(id) {
                part.words[word] |= bit;
            }
        }
    }

    /// Whether the id may be there; if not, it is not.
    pub(super) fn may_have(&self, id: IdDigest) -> bool {
        self.parts.iter().any(|part| {
            part.places(id)
                .all(|(word, bit)| part.words[word] & bit != 0)
        })
    }
}

impl Part {
    /// Eight bits of one cache line, which costs one look into memory.
    fn places(&self, id: IdDigest) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bytes = id.bytes();
        let half = |at: usize| {
            let half: [u8; 8] = std::array::from_fn(|byte| bytes[at + byte]);
            u64::from_le_bytes(half)
        };
        let (line, bits) = (half(0), half(8));
        let lines = self.words.len() / 8;
        let line = usize::try_from(line % lines as u64).unwrap_or(0) * 8;
        (0..PROBES).map(move |probe| {
            // Nine bits each tell a place among the 512 of a line; the last
            // probe lacks one bit and takes it from the line's number.
            let place = (bits.rotate_right(u32::try_from(probe * 8).unwrap_or(0)) & 511) as usize;
            (line + place / 64, 1 << (place % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> IdDigest {
        IdDigest::of("clerk", number.to_string())
    }

    #[test]
    fn every_id_that_was_added_may_be_there_and_few_others() {
        let mut filter = Filter::default();
        for number in 0..200_000 {
            filter.add(id(number));
        }
        assert!((0..200_000).all(|number| filter.may_have(id(number))));
        let wrong = (200_000..400_000)
            .filter(|&n| filter.may_have(id(n)))
            .count();
        assert!(wrong < 1_000, "{wrong} of 200 000");
    }
}
