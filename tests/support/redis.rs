//! A Redis server of one's own, on a free port of the loopback; ended when dropped.
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used)] // it is test code

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct RedisServer {
    pub port: u16,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server, and waits until it answers.
    pub async fn start() -> Self {
        let port = free_port();
        let mut server = Self { port, child: None };
        server.start_again().await;
        server
    }

    /// A port where nobody listens yet.
    pub fn absent() -> Self {
        Self { port: free_port(), child: None }
    }

    /// Starts it at the same port, empty.
    pub async fn start_again(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        self.child = Some(child);
        for _ in 0..1_000 {
            if self.try_send("PING\r\n").await.is_some_and(|answer| answer.starts_with("+PONG")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("redis-server does not answer");
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it where it stands, or lets it go on: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The answer to an inline command, as it comes.
    pub async fn send(&self, command: &str) -> String {
        self.try_send(&format!("{command}\r\n")).await.expect("an answer")
    }

    /// The keys that match a pattern.
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let answer = self.send(&format!("KEYS {pattern}")).await;
        answer.split("\r\n").filter(|line| line.contains(':')).map(str::to_owned).collect()
    }

    async fn try_send(&self, bytes: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.write_all(bytes.as_bytes()).await.ok()?;
        let mut answer = vec![0; 1 << 20];
        let len = stream.read(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer[..len]).into_owned())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
