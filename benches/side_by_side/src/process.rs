//! A process that we started, with its children: what it uses, and its end.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub struct Process(Child);

/// A command that runs on one processor, and ends when this program does.
pub fn on_processor(processor: usize, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", &processor.to_string()]).arg(program.as_ref());
    command
}

impl Process {
    pub fn start(mut command: Command) -> io::Result<Self> {
        let started = command.spawn();
        started.map(Self).map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Time on processors so far, of all threads.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut sum = 0;
        for process in self.tree()? {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let told = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
                sum += told.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or_default();
            }
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> io::Result<u64> {
        let mut sum = 0;
        for process in self.tree()? {
            let told = fs::read_to_string(format!("/proc/{process}/status"))?;
            let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
            let kib = line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default();
            sum += kib * 1024;
        }
        Ok(sum)
    }

    /// The process and its children; none here has grandchildren.
    fn tree(&self) -> io::Result<Vec<u32>> {
        let parent = self.0.id();
        let mut tree = vec![parent];
        for entry in fs::read_dir("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let told = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // The name may have spaces and parentheses; after it come the state and the parent.
            let of = told.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
            if of == Some(parent) {
                tree.push(id);
            }
        }
        Ok(tree)
    }

    /// Ends it, and waits until it has.
    pub fn end(&mut self) -> io::Result<()> {
        if self.0.try_wait()?.is_some() {
            return Ok(());
        }
        if let Some(id) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::TERM)?;
        }
        let begin = Instant::now();
        while self.0.try_wait()?.is_none() {
            if begin.elapsed() > Duration::from_secs(5) {
                self.0.kill()?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("process {} is left: {error}", self.0.id());
        }
    }
}
