//! Who is measured, and how each is started.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::process::{Process, on_processor};
use crate::proxies;
use crate::servers::{Layer, Server};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Contestant {
    /// The bare actix-web handler, which all are compared with
    B,
    /// This crate around the app
    App,
    /// This crate around each resource
    Resource,
    Axum,
    Salvo,
    ActixTower,
    Nginx,
    Varnish,
}

/// callgrind counts each turn of a `rep movsb` or `rep stosb`; the processor does not take them one by one.
const NO_REP: &str =
    "glibc.cpu.x86_rep_movsb_threshold=2000000000:glibc.cpu.x86_rep_stosb_threshold=2000000000";

/// What a contestant runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    Nothing,
    Callgrind,
}

impl Contestant {
    pub fn label(self) -> &'static str {
        match self {
            Self::B => "b: bare actix-web handler",
            Self::App => "actix-fast-cache, app",
            Self::Resource => "actix-fast-cache, resource",
            Self::Axum => "axum-response-cache",
            Self::Salvo => "salvo-cache",
            Self::ActixTower => "actix_tower",
            Self::Nginx => "nginx, in front of b",
            Self::Varnish => "Varnish, in front of b",
        }
    }

    pub fn is_ours(self) -> bool {
        matches!(self, Self::App | Self::Resource)
    }

    fn server(self) -> Option<Server> {
        Some(match self {
            Self::B => Server::Actix(Layer::None),
            Self::App => Server::Actix(Layer::AroundApp),
            Self::Resource => Server::Actix(Layer::AroundResources),
            Self::ActixTower => Server::Actix(Layer::ActixTower),
            Self::Axum => Server::Axum,
            Self::Salvo => Server::Salvo,
            Self::Nginx | Self::Varnish => return None,
        })
    }

    /// Becomes this server.
    pub fn serve(self) -> io::Result<()> {
        let server = self.server().ok_or_else(|| io::Error::other("not a server of this program"))?;
        crate::servers::serve(server)
    }

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Where servers run: on a processor of their own, with an origin beside the client, in a directory of their own.
pub struct Field {
    pub server_processor: usize,
    pub client_processor: usize,
    pub directory: PathBuf,
    /// Behind the proxies, and started when the first of them is.
    pub origin: Option<Running>,
}

pub struct Running {
    pub address: SocketAddr,
    /// Who knows how often the handlers behind it ran.
    pub handlers: SocketAddr,
    pub process: Process,
    told: PathBuf,
}

impl Field {
    pub fn new() -> io::Result<Self> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut processors = (0..1024).filter(|processor| allowed.is_set(*processor));
        let (Some(server_processor), Some(client_processor)) = (processors.next(), processors.next()) else {
            return Err(io::Error::other(
                "two processors are needed: one for the servers, one for their clients",
            ));
        };
        let mut own = rustix::thread::CpuSet::new();
        own.set(client_processor);
        rustix::thread::sched_setaffinity(None, &own)?;
        let directory = std::env::temp_dir().join(format!("side_by_side-{}", std::process::id()));
        fs::create_dir(&directory)?;
        Ok(Self { server_processor, client_processor, directory, origin: None })
    }

    pub fn start(&mut self, contestant: Contestant) -> io::Result<Running> {
        self.start_under(contestant, Under::Nothing)
    }

    pub fn start_under(&mut self, contestant: Contestant, under: Under) -> io::Result<Running> {
        match contestant {
            Contestant::Nginx | Contestant::Varnish => {
                let origin = match &self.origin {
                    Some(origin) => origin.address,
                    None => {
                        let origin =
                            self.start_server(Contestant::B, Under::Nothing, self.client_processor)?;
                        self.origin.insert(origin).address
                    }
                };
                self.start_proxy(contestant, under, origin)
            }
            _ => self.start_server(contestant, under, self.server_processor),
        }
    }

    fn start_server(&self, contestant: Contestant, under: Under, processor: usize) -> io::Result<Running> {
        let program = std::env::current_exe()?;
        let told = self.directory.join(contestant.name());
        let mut command = command(under, processor, &program);
        command.args(["--serve", &contestant.name()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&told)?);
        let mut process = Process::start(command)?;
        let mut line = String::new();
        if let Some(output) = process.child().stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(|_| {
            io::Error::other(format!("no address: {line}{}", fs::read_to_string(&told).unwrap_or_default()))
        })?;
        Ok(Running { address, handlers: address, process, told })
    }

    fn start_proxy(&self, contestant: Contestant, under: Under, origin: SocketAddr) -> io::Result<Running> {
        let told = self.directory.join(contestant.name());
        let proxy = match contestant {
            Contestant::Nginx => proxies::nginx(&self.directory, origin)?,
            _ => proxies::varnish(&self.directory, origin)?,
        };
        let mut command = command(under, self.server_processor, Path::new(proxy.program));
        command.args(&proxy.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&told)?);
        let process = Process::start(command)?;
        proxies::wait_for(proxy.address).map_err(|error| {
            io::Error::other(format!("{error}: {}", fs::read_to_string(&told).unwrap_or_default()))
        })?;
        Ok(Running { address: proxy.address, handlers: origin, process, told })
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.origin = None;
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{} is left: {error}", self.directory.display());
        }
    }
}

impl Running {
    /// Ends it, and says what it said on standard error.
    pub fn end(mut self) -> io::Result<String> {
        self.process.end()?;
        fs::read_to_string(&self.told)
    }
}

fn command(under: Under, processor: usize, program: &Path) -> Command {
    match under {
        Under::Nothing => on_processor(processor, program),
        Under::Callgrind => {
            let mut command = on_processor(processor, "valgrind");
            command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
            command.env("GLIBC_TUNABLES", NO_REP);
            command
        }
    }
}
