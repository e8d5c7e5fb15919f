/// Which brackets are open: a bit each, set for an object, the innermost
/// lowest.
#[derive(Clone, Copy, Default)]
pub(super) struct Open {
    depth: usize,
    /// The innermost 64 at most.
    bits: u64,
}

/// What is open further out: a word for every 64. Empty while no more are open.
#[derive(Default)]
pub(super) struct Outer(Vec<u64>);

impl Open {
    /// Opens one more, of at most 64.
    #[inline(always)]
    pub(super) fn push(&mut self, object: bool) {
        self.bits = self.bits << 1 | u64::from(object);
        self.depth += 1;
    }

    /// Whether the innermost is an object; `None` when none is open.
    #[inline(always)]
    pub(super) fn top(self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }

    /// Closes one, of at most 64.
    #[inline(always)]
    pub(super) fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
    }
}

impl Outer {
    /// Makes room for what 64 more than `open` leave here.
    #[inline(always)]
    pub(super) fn reserve(&mut self, open: Open) {
        if self.0.len() < open.depth / 64 + usize::from(open.depth > 0) {
            self.grow();
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        self.0.push(0);
    }

    /// Opens one more, for which there is room.
    #[inline(always)]
    pub(super) fn push(&mut self, open: &mut Open, object: bool) {
        if open.depth.is_multiple_of(64)
            && let Some(last) = open.depth.checked_sub(64)
            && let Some(outer) = self.0.get_mut(last / 64)
        {
            *outer = open.bits;
        }
        open.push(object);
    }

    /// Closes one.
    #[inline(always)]
    pub(super) fn pop(&mut self, open: &mut Open) {
        open.pop();
        if open.depth.is_multiple_of(64)
            && let Some(last) = open.depth.checked_sub(64)
            && let Some(outer) = self.0.get(last / 64)
        {
            open.bits = *outer;
        }
    }
}
