//! What a process cost, from `/proc`.

use std::fs;

use anyhow::Context as _;

/// `USER_HZ` of every Linux architecture that Debian releases.
const TICKS: f64 = 100.0;

/// Seconds of CPU, in the kernel and outside, that all threads of a process have used; steps of 10 ms.
///
/// # Errors
/// If there is no such process.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name, in parentheses, may contain anything: fields are counted from behind it.
    let (_, fields) = stat.rsplit_once(')').context("unexpected /proc/<pid>/stat")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let (user, system) = ticks().zip(ticks()).context("unexpected /proc/<pid>/stat")?;
    Ok((user + system) as f64 / TICKS)
}

/// Forgets the peak of resident memory: from now on it is that of the following time.
///
/// # Errors
/// If the process is gone or not ours.
pub fn reset_peak(pid: u32) -> anyhow::Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

/// Peak of resident memory in MiB since the last [`reset_peak`].
///
/// # Errors
/// If there is no such process.
pub fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmHWM:")
}

/// Resident memory in MiB.
///
/// # Errors
/// If there is no such process.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmRSS:")
}

/// Open descriptors.
///
/// # Errors
/// If the process is gone or not ours.
pub fn descriptors(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count() as u64)
}

/// Threads.
///
/// # Errors
/// If there is no such process.
pub fn threads(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/task");
    Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count() as u64)
}

fn status_mib(pid: u32, name: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .with_context(|| format!("no {name} in {path}"))?;
    Ok(kib as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_figures_are_plausible() {
        let pid = std::process::id();
        reset_peak(pid).unwrap();
        let before = peak_mib(pid).unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = peak_mib(pid).unwrap();
        assert!(after - before > 60.0, "{before} then {after}, with {} bytes more", block.len());
        assert!(resident_mib(pid).unwrap() <= after);
        assert!(cpu_seconds(pid).unwrap() < 3600.0);
        assert!(descriptors(pid).unwrap() >= 3 && threads(pid).unwrap() >= 1);
    }
}
