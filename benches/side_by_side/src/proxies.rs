//! nginx and Varnish: one process or pool, with storage of their own, in front of an origin.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

pub struct Proxy {
    pub program: &'static str,
    pub arguments: Vec<String>,
    pub address: SocketAddr,
}

pub fn nginx(directory: &Path, origin: SocketAddr) -> io::Result<Proxy> {
    let address = free_address()?;
    let home = fresh(directory, "nginx.d")?;
    let home = home.display();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {home}/pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
    client_body_temp_path {home}/client; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    proxy_cache_path {home}/cache levels=1:2 keys_zone=pages:10m max_size=1g use_temp_path=off;
    upstream origin {{ server {origin}; keepalive 256; }}
    server {{
        listen {address} backlog=1024;
        location / {{
            proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
            proxy_cache pages; proxy_cache_lock on;
        }}
    }}
}}
"
    );
    let path = directory.join("nginx.conf");
    fs::write(&path, config)?;
    let arguments = vec!["-c".to_owned(), path.display().to_string()];
    Ok(Proxy { program: "nginx", arguments, address })
}

pub fn varnish(directory: &Path, origin: SocketAddr) -> io::Result<Proxy> {
    let address = free_address()?;
    let home = fresh(directory, "varnish.d")?;
    let home = home.display();
    let arguments = [
        "-F -j none -p thread_pools=1 -p thread_pool_min=50 -p thread_pool_max=1000 -s default,1g -s Transient=default,1g",
        &format!("-n {home} -a {address} -b {origin}"),
    ];
    let arguments = arguments.iter().flat_map(|part| part.split(' ')).map(str::to_owned).collect();
    Ok(Proxy { program: "varnishd", arguments, address })
}

/// Until somebody listens.
pub fn wait_for(address: SocketAddr) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if begin.elapsed() > Duration::from_secs(20) => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

fn fresh(directory: &Path, name: &str) -> io::Result<std::path::PathBuf> {
    let home = directory.join(name);
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir(&home)?;
    Ok(home)
}
