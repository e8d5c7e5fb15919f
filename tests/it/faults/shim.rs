use std::fs::File;
use std::os::unix::fs::FileExt as _;

use tempfile::TempDir;

use crate::support::Setup;

/// Breaks calls on the system of one hookward, whenever the test says.
///
/// It is a library that is loaded before the others, compiled from `shim.c` where
/// it is needed. hookward calls the system through the C library alone for all that
/// is broken here; what never came by is told by [`Shim::hits`].
pub struct Shim {
    folder: TempDir,
    slots: File,
    path: &'static str,
}

/// A call on the system.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// A file is opened.
    Open,
    /// A file is written.
    Write,
    /// A file is synced.
    Sync,
    /// A file is cut back.
    Cut,
    /// An answer is written to a sender; hookward listens at this port.
    Answer(u16),
    /// Something is written to a service or broker at this port.
    Request(u16),
    /// Something was read that a service or broker at this port wrote.
    Reply(u16),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// It fails: the disk is full.
    Full,
    /// It fails: the disk is broken.
    Broken,
    /// Half of it is written.
    Half,
    /// hookward is killed before it.
    KillBefore,
    /// hookward is killed after it.
    KillAfter,
    /// hookward is killed when half of it is written.
    KillHalfway,
}

/// What becomes of the calls of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    pub act: Act,
    /// So many calls of the kind pass first.
    pub skip: i32,
    /// Then so many do not.
    pub times: i32,
}

impl Fault {
    /// The next call of this kind.
    pub fn next(call: Call, act: Act) -> Self {
        Self {
            call,
            act,
            skip: 0,
            times: 1,
        }
    }

    /// Not the next call, the one after it.
    pub fn second(call: Call, act: Act) -> Self {
        let skip = 1;
        Self {
            skip,
            ..Self::next(call, act)
        }
    }

    /// Every call of this kind from now on.
    pub fn every(call: Call, act: Act) -> Self {
        let times = i32::MAX - 1;
        Self {
            times,
            ..Self::next(call, act)
        }
    }
}

const SLOTS: usize = 8;
const SLOT: usize = 32;

impl Shim {
    /// For files whose path holds this.
    pub fn on(path: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults/shim.c");
        let compiled = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("shim.so"))
            .arg(source)
            .status()
            .expect("no C compiler");
        assert!(compiled.success());
        let file = folder.path().join("slots");
        std::fs::write(&file, [0; SLOTS * SLOT]).unwrap();
        let slots = File::options().write(true).read(true).open(file).unwrap();
        Self {
            folder,
            slots,
            path,
        }
    }

    /// A gateway whose calls go through it.
    pub fn under(&self, setup: Setup) -> Setup {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        setup
            .env("LD_PRELOAD", &file("shim.so"))
            .env("FAULTS", &file("slots"))
            .env("FAULTS_PATH", self.path)
    }

    /// From now on it does these, and nothing else. Of several of one kind the
    /// first that does something does it.
    pub fn arm(&self, faults: &[Fault]) {
        let mut slots = [0; SLOTS * SLOT];
        assert!(faults.len() <= SLOTS);
        for (slot, fault) in slots.chunks_mut(SLOT).zip(faults) {
            let (call, port) = match fault.call {
                Call::Open => (1, 0),
                Call::Write => (2, 0),
                Call::Sync => (3, 0),
                Call::Cut => (4, 0),
                Call::Answer(port) => (5, port),
                Call::Request(port) => (6, port),
                Call::Reply(port) => (7, port),
            };
            let act = match fault.act {
                Act::Full => 28,
                Act::Broken => 5,
                Act::KillBefore => -1,
                Act::KillAfter => -2,
                Act::Half => -3,
                Act::KillHalfway => -4,
            };
            let fields = [call, act, fault.skip, fault.times, port.into(), 0];
            for (bytes, field) in slot.chunks_mut(4).zip(fields) {
                bytes.copy_from_slice(&i32::to_ne_bytes(field));
            }
        }
        self.slots.write_all_at(&slots, 0).unwrap();
    }

    /// How many calls of the kind of the so many-th fault there were.
    pub fn hits(&self, fault: usize) -> i32 {
        let mut bytes = [0; 4];
        let at = (fault * SLOT + 20) as u64;
        self.slots.read_exact_at(&mut bytes, at).unwrap();
        i32::from_ne_bytes(bytes)
    }
}
