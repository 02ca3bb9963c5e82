//! Which core a program runs on, and how long it ran.
#![allow(unsafe_code, reason = "sched_getaffinity and sched_setaffinity")]

use std::{
    fs, io,
    mem::{self, MaybeUninit},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// The cores that this process may use.
pub fn allowed() -> Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set is live and as large as is said; all zeroes is an empty set.
    let (result, set) = unsafe {
        let size = mem::size_of::<libc::cpu_set_t>();
        let result = libc::sched_getaffinity(0, size, set.as_mut_ptr());
        (result, set.assume_init())
    };
    ensure!(result == 0, io::Error::last_os_error());
    let most = usize::try_from(libc::CPU_SETSIZE)?;
    // SAFETY: no core beyond the set's size is asked for.
    let cores = (0..most).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) });
    Ok(cores.collect())
}

/// Binds a program, with all its threads and those that they start, to one core.
pub fn pin(pid: u32, core: usize) -> Result<()> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all zeroes is an empty set, and `core` is one that `allowed` gave.
    let set = unsafe {
        libc::CPU_SET(core, &mut *set.as_mut_ptr());
        set.assume_init()
    };
    for task in tasks(pid)? {
        let id = task.file_name().and_then(|name| name.to_str());
        let id: libc::pid_t = id.context("no thread id")?.parse()?;
        // SAFETY: the set is live and as large as is said.
        let result = unsafe { libc::sched_setaffinity(id, mem::size_of_val(&set), &raw const set) };
        let error = io::Error::last_os_error();
        // A thread that ended meanwhile needs no core.
        let gone = error.raw_os_error() == Some(libc::ESRCH);
        ensure!(result == 0 || gone, "thread {id} to core {core}: {error}");
    }
    Ok(())
}

/// Time that a program's threads spent on a core so far, to the nanosecond: user and kernel.
pub fn spent(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in tasks(pid)? {
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else {
            // It ended between the two looks; Envoy's threads live as long as it does.
            continue;
        };
        sum += on_core(&text).with_context(|| format!("no time in {text:?}"))?;
    }
    ensure!(
        sum > Duration::ZERO,
        "this kernel keeps no /proc/PID/task/TID/schedstat"
    );
    Ok(sum)
}

/// `TIME_ON_CORE TIME_WAITING SLICES`, in nanoseconds.
fn on_core(schedstat: &str) -> Option<Duration> {
    let nanos = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn tasks(pid: u32) -> Result<Vec<PathBuf>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| path.clone())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// What the processor calls itself.
pub fn model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let model = lines.find(|(name, _)| name.trim() == "model name");
    model.map_or_else(|| "unknown".into(), |(_, model)| model.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_the_core_is_the_first_number() {
        assert_eq!(on_core("1200 5 9\n"), Some(Duration::from_nanos(1200)));
        assert_eq!(on_core(""), None);
    }

    #[test]
    fn a_busy_program_spends_time_on_a_core() {
        let me = std::process::id();
        let before = spent(me).unwrap();
        let mut sum = 0_u64;
        while spent(me).unwrap() == before {
            sum = std::hint::black_box(sum + 1);
        }
    }

    #[test]
    fn a_program_is_bound_to_the_core_that_it_was_given() {
        let mut command = std::process::Command::new("cat");
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let core = *allowed().unwrap().last().unwrap();
        pin(child.id(), core).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let line = format!("Cpus_allowed_list:\t{core}");
        assert!(status.lines().any(|found| found == line), "{status}");
    }
}
