//! What ran, and where.

use std::fs;
use std::process::Command;

const LOCK: &str = include_str!("../Cargo.lock");
const PACKAGES: [&str; 10] = [
    "actix-fast-cache",
    "actix-web",
    "mini-moka",
    "actix_tower",
    "axum",
    "axum-response-cache",
    "salvo_core",
    "salvo-cache",
    "hyper",
    "tokio",
];
const PROGRAMS: [&[&str]; 5] = [
    &["nginx", "-v"],
    &["varnishd", "-V"],
    &["wrk", "-v"],
    &["valgrind", "--version"],
    &["rustc", "--version"],
];

pub fn packages() -> String {
    let version = |name: &str| {
        let line = format!("name = \"{name}\"");
        let mut lines = LOCK.lines().skip_while(|found| *found != line);
        lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
    };
    PACKAGES.map(|name| format!("{name} {}", version(name).unwrap_or("?"))).join(", ")
}

pub fn programs() -> String {
    PROGRAMS.map(first_line).join("; ")
}

/// The commit measured, with a mark where files differ from it.
pub fn commit() -> String {
    first_line(&["git", "describe", "--always", "--dirty", "--exclude=*"])
}

pub fn date() -> String {
    first_line(&["date", "-u", "+%F"])
}

pub fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system =
        system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?").trim_matches('"');
    let kernel = first_line(&["uname", "-r"]);
    // Without what a distribution or a host adds.
    let kernel = kernel.split('-').next().unwrap_or_default();
    format!("{} x {}, Linux {kernel}, {system}", models.len(), models.first().unwrap_or(&"?"))
}

/// What the machine does beside.
pub fn load() -> String {
    let told = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    told.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

/// Some programs tell their versions on standard error.
fn first_line(command: &[&str]) -> String {
    let Some((program, arguments)) = command.split_first() else { return String::new() };
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return format!("{program}: not found");
    };
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    let line = told.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let line = line.split(" Copyright").next().unwrap_or_default().trim();
    line.trim_start_matches("nginx version: ").to_owned()
}
