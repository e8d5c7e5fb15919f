use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and tells how many
/// connections fit below it when `reserve` files are kept for everything else
/// (upstream connections, files, the listeners). At least half of the limit is
/// for connections.
pub fn raise_open_files(reserve: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    // Where it may not be raised, what there is has to do.
    let limit = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted.current,
        Err(_) => before.current,
    };
    fits(limit, reserve)
}

fn fits(limit: Option<u64>, reserve: usize) -> usize {
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    (limit - reserve.min(limit / 2)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_kept_but_never_takes_more_than_half() {
        assert_eq!(fits(Some(20_000), 1_500), 18_500);
        assert_eq!(fits(Some(1_024), 1_500), 512);
        assert_eq!(fits(Some(0), 1_500), 1);
        assert!(fits(None, 1_500) > 1_000_000_000);
    }

    #[test]
    fn raising_leaves_the_soft_limit_at_the_hard_one() {
        assert!(raise_open_files(16) > 0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
