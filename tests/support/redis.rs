//! A Redis server of one's own, on a free port of the loopback; ended when dropped.
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct RedisServer {
    pub port: u16,
    child: Option<Child>,
    settings: Vec<String>,
    /// A sentinel does not know how to part.
    parts: bool,
}

impl RedisServer {
    /// Starts a server, and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with settings, as on its command line.
    pub async fn start_with(settings: &[&str]) -> Self {
        let mut server = Self::absent();
        server.settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        server.start_again().await;
        server
    }

    /// Starts a server that has its port from these settings.
    pub async fn start_from(port: u16, settings: &[&str]) -> Self {
        let child = Command::new("redis-server")
            .args(settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        let server = Self { port, child: Some(child), settings: Vec::new(), parts: false };
        wait_until(async || server.try_send("PING\r\n").await.is_some()).await;
        server
    }

    /// A port where nobody listens yet.
    pub fn absent() -> Self {
        Self { port: free_port(), child: None, settings: Vec::new(), parts: true }
    }

    /// Starts it at the same port, empty, and waits until it answers.
    pub async fn start_again(&mut self) {
        self.spawn(&[]);
        // One that wants a password is there too.
        self.answers(|answer| !answer.starts_with("-LOADING")).await;
    }

    /// Starts it at the same port with more settings, and does not wait for it.
    pub fn spawn(&mut self, more: &[&str]) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            // A replica gets what it copies as a file: where it leaves one behind, the next server would start with that.
            .args(["--rdb-del-sync-files", "yes", "--dbfilename", &format!("afc-test-{port}.rdb")])
            .args(["--dir", &std::env::temp_dir().to_string_lossy()])
            .args(&self.settings)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        self.child = Some(child);
    }

    /// Waits until it answers a PING so.
    pub async fn answers(&self, is_so: impl Fn(&str) -> bool) {
        wait_until(async || self.try_send("PING\r\n").await.is_some_and(|answer| is_so(&answer))).await;
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

    /// How often these commands were called, in scripts too.
    pub async fn calls(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let stats = self.send("INFO commandstats").await;
        let lines = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
        let meant = lines.filter(|(command, _)| is_meant(command));
        meant.map(|(_, rest)| rest.split(',').next().unwrap().parse::<usize>().unwrap()).sum()
    }

    async fn try_send(&self, bytes: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        if !self.parts {
            stream.write_all(bytes.as_bytes()).await.ok()?;
            let mut answer = vec![0; 1 << 16];
            let len = stream.read(&mut answer).await.ok()?;
            return Some(String::from_utf8_lossy(&answer[..len]).into_owned());
        }
        // An answer comes in any number of pieces; the server closes when all is said.
        stream.write_all(format!("{bytes}QUIT\r\n").as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = answer.strip_suffix(b"+OK\r\n").unwrap_or(&answer);
        (!answer.is_empty()).then(|| String::from_utf8_lossy(answer).into_owned())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three nodes that share the slots of a cluster.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    _files: Folder,
}

pub const SLOTS: u32 = 16_384;

impl RedisCluster {
    pub async fn start() -> Self {
        let (mut nodes, files) = (Vec::new(), Folder::new());
        for n in 0..3 {
            let (bus, table) = (free_port().to_string(), files.path(&format!("nodes-{n}.conf")));
            let settings =
                ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-config-file", &table];
            let more = ["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"];
            let node = RedisServer::start_with(&[settings.as_slice(), &more].concat()).await;
            let (first, last) = (n * SLOTS / 3, (n + 1) * SLOTS / 3 - 1);
            node.send(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await;
            node.send(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1)).await;
            nodes.push((node, bus));
        }
        let (first, others) = nodes.split_first().unwrap();
        for (node, bus) in others {
            let met = first.0.send(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port)).await;
            assert!(met.starts_with("+OK"), "{met}");
        }
        let cluster = Self { nodes: nodes.into_iter().map(|(node, _)| node).collect(), _files: files };
        for node in &cluster.nodes {
            wait_until(async || {
                let info = node.send("CLUSTER INFO").await;
                info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:3")
                    && info.contains("cluster_slots_ok:16384")
            })
            .await;
        }
        cluster
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The node that serves the slot of a key, and another one.
    pub async fn owner(&self, key: &str) -> (u32, &RedisServer, &RedisServer) {
        let slot = self.nodes[0].send(&format!("CLUSTER KEYSLOT {key}")).await;
        let slot: u32 = slot.trim_start_matches(':').trim().parse().unwrap();
        for (n, node) in self.nodes.iter().enumerate() {
            if !node.send(&format!("GET {key}")).await.starts_with("-MOVED") {
                return (slot, node, &self.nodes[(n + 1) % 3]);
            }
        }
        panic!("nobody has slot {slot}");
    }
}

/// Waits until something that other processes do has come about.
pub async fn wait_until(mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come about");
}

/// A folder for files of one test, gone when dropped.
pub struct Folder(std::path::PathBuf);

impl Folder {
    pub fn new() -> Self {
        // A port that was free a moment ago is a name that nobody else has.
        let path = std::env::temp_dir().join(format!("afc-test-{}-{}", std::process::id(), free_port()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
