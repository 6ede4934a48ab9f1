//! The walk-throughs of examples/README.md: what they show is what comes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

#[cfg(feature = "redis")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::{io::BufRead, io::BufReader};

/// An example that runs on a free port.
struct Running {
    process: Child,
    address: String,
    told: BufReader<ChildStdout>,
}

impl Running {
    fn start(name: &str, more: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = free.to_string();
        let mut command = Command::new(directory().join(name));
        let mut process = command.arg(&address).args(more).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        assert!(line.contains(&address), "{line}");
        // It says where it will listen; a moment later it does.
        assert!((0..100_000).any(|_| {
            std::thread::yield_now();
            TcpStream::connect(&address).is_ok()
        }));
        Self { process, address, told }
    }

    /// Runs a command of the walk-through against this server.
    fn run(&self, command: &str) -> String {
        let command = command.replace("127.0.0.1:8080", &self.address);
        let silent = command.replacen("curl ", "curl -s ", 1);
        let output = Command::new("sh").args(["-c", &silent]).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it has printed until its end.
    fn stop(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let told = std::mem::replace(&mut self.told, BufReader::new(empty()));
        told.lines().map(Result::unwrap).collect()
    }
}

fn empty() -> ChildStdout {
    Command::new("true").stdout(Stdio::piped()).spawn().unwrap().stdout.take().unwrap()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the examples are, built from the sources of today in the profile of this test.
fn directory() -> &'static Path {
    static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let name = match profile.file_name().and_then(|name| name.to_str()).unwrap() {
            "debug" => "dev",
            name => name,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let mut build = Command::new(cargo);
        build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--all-features", "--profile", name]);
        build.args(["--example", "simple", "--example", "complex", "--example", "invalidate"]);
        build.args(["--example", "redis"]);
        build.arg("--target-dir").arg(profile.parent().unwrap());
        assert!(build.status().unwrap().success(), "the examples do not build");
        profile.join("examples")
    });
    &DIRECTORY
}

/// The commands of one walk-through, each with the output that is shown.
fn walk_through(name: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/README.md")).unwrap();
    let mut section =
        text.split("\n## ").find(|section| section.starts_with(name)).expect(name).split("\n```\n");
    let mut shown = Vec::new();
    // What stands between one fence and the next.
    while let (Some(_), Some(block)) = (section.next(), section.next()) {
        for command in block.split("$ ").filter(|part| part.starts_with("curl ")) {
            let (command, output) = command.split_once('\n').unwrap();
            shown.push((command.to_owned(), output.trim_end().to_owned()));
        }
    }
    assert!(shown.len() > 1, "{name}: {shown:?}");
    shown
}

/// An answer as far as it is the same every time: fields in any order, without the time of the day; and whether what
/// curl timed took a second.
fn gist(output: &str) -> (String, BTreeMap<String, Vec<String>>, Vec<String>) {
    let output = output.replace('\r', "");
    let (head, body) = output.split_once("\n\n").unwrap_or((&output, ""));
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default().to_owned();
    let mut fields = BTreeMap::<_, Vec<_>>::new();
    let mut rest = Vec::new();
    for line in lines {
        match line.split_once(": ") {
            Some((name, _)) if matches!(name, "date" | "age") => fields.entry(name.to_owned()).or_default(),
            Some((name, value)) => {
                fields.entry(name.to_owned()).or_default().push(value.to_owned());
                continue;
            }
            None => {
                rest.push(line.to_owned());
                continue;
            }
        };
    }
    for line in body.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        rest.push(match line.strip_suffix(" s").map(str::parse::<f64>) {
            Some(Ok(seconds)) => format!("a second or more: {}", seconds >= 1.0),
            _ => line.to_owned(),
        });
    }
    (status, fields, rest)
}

fn shows_what_comes(name: &str) -> Vec<String> {
    let server = Running::start(name, &[]);
    for (command, shown) in walk_through(name) {
        let came = server.run(&command);
        assert_eq!(gist(&came), gist(&shown), "{name}: {command}\n{came}");
    }
    server.stop()
}

// PARITY 37
#[test]
fn simple_shows_what_comes() {
    let told = shows_what_comes("simple");
    assert_eq!(told, ["the handler runs"; 2]);
}

// PARITY 38
#[test]
fn complex_shows_what_comes() {
    shows_what_comes("complex");
}

// PARITY 39
#[test]
fn invalidate_shows_what_comes() {
    shows_what_comes("invalidate");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_shows_what_comes() {
    let redis = support::redis::RedisServer::start().await;
    let [one, other] = [(); 2].map(|()| Running::start("redis", &[&redis.url()]));
    for (command, shown) in walk_through("redis") {
        let on = if command.contains(":8081") { &other } else { &one };
        let came = on.run(&command.replace(":8081", ":8080"));
        assert_eq!(gist(&came), gist(&shown), "{command}\n{came}");
    }
    assert_eq!(
        (one.stop(), other.stop()),
        (vec!["making report 1".to_owned()], vec!["making report 1".to_owned()])
    );
}
