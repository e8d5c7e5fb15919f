use std::fs;

/// A figure of `/proc/PID/status`, `VmRSS` (what a process has of memory now) or
/// `VmHWM` (the most it had), in bytes. Without a number, of this process.
pub fn resident(pid: Option<u32>, figure: &str) -> u64 {
    let of = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    let text = line.unwrap().trim_start_matches(':').trim_end_matches("kB");
    text.trim().parse::<u64>().unwrap() * 1024
}
