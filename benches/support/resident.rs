use std::fs;

/// Memory of a process, of `/proc/PID/status` (bytes).
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// What it has now.
    pub now: u64,
    /// The most it had.
    pub peak: u64,
}

/// What a process has of memory; `None` is this one.
pub fn resident(pid: Option<u32>) -> Resident {
    let of = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap();
    let kibibytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let text = line.unwrap_or_default().trim().trim_end_matches(" kB");
        text.parse::<u64>().unwrap() * 1024
    };
    Resident {
        now: kibibytes("VmRSS:"),
        peak: kibibytes("VmHWM:"),
    }
}
