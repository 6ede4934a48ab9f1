//! Redis as people run it: with passwords and databases, behind TLS, behind sentinels, as a cluster.
#![cfg(all(feature = "redis", feature = "redis-tls"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::process::Command;
use std::time::Duration;

use actix_fast_cache::storage::conformance::{self, Clause};
use actix_fast_cache::{
    CacheConfig, CacheControl, CacheHandle, FastCache, RedisServers, RedisStorage, StoreOptions,
    StoredResponse,
};
use actix_web::http::StatusCode;
use actix_web::{App, web};
use support::Server;
use support::redis::{Folder, RedisCluster, RedisServer, free_port, wait_until};

fn cache(servers: RedisServers) -> CacheHandle {
    let storage = RedisStorage::new(servers, "afc").unwrap();
    CacheConfig::builder(storage).storage_deadline(Duration::from_secs(5)).build().unwrap().handle()
}

async fn keeps(cache: &CacheHandle, name: &str) -> bool {
    let page = StoredResponse::new(StatusCode::OK, name.to_owned());
    cache.set(name, page, StoreOptions::new().tag("pages")).await.is_ok() && has(cache, name).await
}

async fn has(cache: &CacheHandle, name: &str) -> bool {
    let found = cache.get(name).await.ok().flatten();
    assert!(found.iter().all(|page| page.body() == name), "{name}");
    found.is_some()
}

/// Pages that say which they are.
fn serve(servers: RedisServers) -> (Server, CacheHandle) {
    let config = CacheConfig::builder(RedisStorage::new(servers, "afc").unwrap()).build().unwrap();
    let cache = config.handle();
    let server = Server::start(2, move || {
        let page = async |id: web::Path<u32>, cache: CacheControl| {
            cache.tag("pages");
            format!("page {id}")
        };
        App::new().service(web::resource("/{id}").wrap(FastCache::new(config.clone())).to(page))
    });
    (server, cache)
}

/// Asks for each page; how many were hits.
async fn all_right(server: &Server) -> usize {
    let mut hits = 0;
    for id in 0..30 {
        let reply = server.get(&format!("/{id}"), &[]).await;
        assert_eq!((reply.status, reply.text()), (200, format!("page {id}")));
        hits += usize::from(reply.cache() == "HIT");
    }
    hits
}

#[tokio::test]
async fn users_passwords_and_databases_are_those_of_the_url() {
    let redis = RedisServer::start_with(&["--requirepass", "secret"]).await;
    let as_admin = |command: &str| format!("AUTH secret\r\n{command}");
    // No more than the documentation of the storage asks for.
    let user = "ACL SETUSER app on >word ~afc:* &afc:* +get +set +del +getrange +zadd +zmscore +zscore +zcard +zrange \
                +zrem +hset +hsetnx +hget +hdel +pexpire +time +echo +eval +evalsha +script|load +publish +subscribe \
                +select +hello";
    let answer = redis.send(&as_admin(user)).await;
    assert!(answer.ends_with("+OK\r\n"), "{answer}");
    let at = |who: &str| format!("redis://{who}127.0.0.1:{}/3", redis.port);
    let app = cache(RedisServers::single(&at("app:word@")).unwrap());
    assert!(keeps(&app, "a").await);
    app.invalidate_tag("pages").await.unwrap();
    assert!(!has(&app, "a").await);
    assert!(keeps(&app, "b").await);
    let in_third = redis.send(&as_admin("SELECT 3\r\nDBSIZE")).await;
    let in_first = redis.send(&as_admin("DBSIZE")).await;
    assert!(in_third.ends_with(":4\r\n") && in_first.ends_with(":0\r\n"), "{in_third} {in_first}");
    for stranger in ["", "app:wrong@", "default:word@"] {
        assert!(!keeps(&cache(RedisServers::single(&at(stranger)).unwrap()), "c").await, "{stranger}");
    }
}

fn openssl(arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).output().expect("openssl is needed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn tls_shows_and_checks_certificates() {
    let files = Folder::new();
    let path = |name: &str| files.path(name);
    openssl(&format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout {} -out {}",
        path("ca.key"),
        path("ca.pem")
    ));
    std::fs::write(path("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1").unwrap();
    for who in ["server", "client"] {
        openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={who} -keyout {} -out {}",
            path(&format!("{who}.key")),
            path(&format!("{who}.csr"))
        ));
        openssl(&format!(
            "x509 -req -days 2 -in {} -CA {} -CAkey {} -CAcreateserial -extfile {} -out {}",
            path(&format!("{who}.csr")),
            path("ca.pem"),
            path("ca.key"),
            path("names"),
            path(&format!("{who}.pem"))
        ));
    }
    let port = free_port();
    let settings = [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", path("server.pem")),
        ("--tls-key-file", path("server.key")),
        ("--tls-ca-cert-file", path("ca.pem")),
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    let _redis = RedisServer::start_with(&settings).await;

    let (url, read) = (format!("rediss://127.0.0.1:{port}"), |name: &str| std::fs::read(path(name)).unwrap());
    let servers = || RedisServers::single(&url).unwrap();
    let trusting = servers().root_certificates(read("ca.pem"));
    assert!(!keeps(&cache(servers()), "a").await, "a server that nobody vouches for");
    assert!(!keeps(&cache(trusting.clone()), "a").await, "it wants to know who asks");
    let known = trusting.client_certificate(read("client.pem"), read("client.key"));
    assert!(keeps(&cache(known), "a").await);
    assert!(RedisStorage::new(servers().root_certificates("no certificate"), "afc").is_err());
}

#[test]
fn what_cannot_be_a_server_is_refused_at_once() {
    assert!(RedisServers::single("localhost:6379").is_err());
    assert!(RedisServers::cluster([]).is_err());
    assert!(RedisServers::sentinel([], "redis://mymaster").is_err());
    let mixed = ["redis://:one@127.0.0.1:1", "redis://:other@127.0.0.1:2"];
    assert!(RedisStorage::new(RedisServers::cluster(mixed).unwrap(), "afc").is_err());
    let shown = format!("{:?}", RedisServers::single("redis://user:secret@127.0.0.1:1").unwrap());
    assert!(shown.contains("127.0.0.1:1") && !shown.contains("user") && !shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn sentinels_lead_to_the_next_master() {
    let mut master = RedisServer::start().await;
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]).await;
    wait_until(async || replica.send("INFO replication").await.contains("master_link_status:up")).await;
    let (files, port) = (Folder::new(), free_port());
    let table = files.path("sentinel.conf");
    let watch = format!("sentinel monitor shop 127.0.0.1 {} 1", master.port);
    let settings = format!(
        "port {port}\n{watch}\nsentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 2000\n"
    );
    std::fs::write(&table, settings).unwrap();
    let sentinel = RedisServer::start_from(port, &[&table, "--sentinel"]).await;
    let url = format!("redis://127.0.0.1:{port}");
    let port = replica.port.to_string();
    wait_until(async || sentinel.send("SENTINEL replicas shop").await.contains(&port)).await;

    let (server, cache) = serve(RedisServers::sentinel([url.as_str()], "redis://shop").unwrap());
    all_right(&server).await;
    cache.flush().await;
    assert_eq!(all_right(&server).await, 30);
    assert!(!master.keys("afc:*").await.is_empty());
    master.kill();
    wait_until(async || all_right(&server).await == 30).await;
    assert!(replica.send("ROLE").await.contains("master"));
    // For a moment the sentinel takes the new master for down: it has not asked it yet. Until then the caller is told.
    wait_until(async || cache.invalidate_tag("pages").await.is_ok()).await;
    assert_eq!(all_right(&server).await, 0);
}

async fn cluster(nodes: &RedisCluster) -> RedisServers {
    let urls = nodes.urls();
    RedisServers::cluster(urls.iter().map(String::as_str)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_the_contract() {
    let nodes = RedisCluster::start().await;
    let servers = cluster(&nodes).await;
    for clause in Clause::EVERY {
        let open = async || RedisStorage::new(servers.clone(), "afc").unwrap();
        let kept = conformance::check_clause(*clause, open).await;
        assert!(kept.is_ok(), "{clause:?}: {kept:?}");
    }
}

// F16
#[tokio::test]
async fn a_tag_is_dropped_on_all_nodes_by_any_process() {
    let nodes = RedisCluster::start().await;
    let servers = cluster(&nodes).await;
    let (one, other) = (cache(servers.clone()), cache(servers));
    for n in 0..100 {
        assert!(keeps(&one, &format!("page {n}")).await);
    }
    for node in &nodes.nodes {
        let keys = node.keys("afc:*").await;
        assert!(keys.len() > 10, "{keys:?}");
        for key in keys {
            let ttl = node.send(&format!("TTL {key}")).await;
            assert!(ttl.trim_start_matches(':').trim().parse::<i64>().unwrap() > 0, "{key}: {ttl}");
        }
    }
    for n in 0..100 {
        assert!(has(&other, &format!("page {n}")).await);
    }
    other.invalidate_tag("pages").await.unwrap();
    for n in 0..100 {
        assert!(!has(&one, &format!("page {n}")).await && !has(&other, &format!("page {n}")).await);
    }
}

/// Moves the slot of a key to another node, step by step; pages are asked for at each.
async fn move_slot(nodes: &RedisCluster, key: &str, server: &Server) {
    let (slot, from, to) = nodes.owner(key).await;
    let id = async |node: &RedisServer| {
        let id = node.send("CLUSTER MYID").await;
        id.lines().nth(1).unwrap().to_owned()
    };
    let (from_id, to_id) = (id(from).await, id(to).await);
    let ok = async |node: &RedisServer, command: String| {
        let answer = node.send(&command).await;
        assert!(answer.starts_with("+OK"), "{command}: {answer}");
        all_right(server).await;
    };
    ok(to, format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
    ok(from, format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
    loop {
        let keys = from.send(&format!("CLUSTER GETKEYSINSLOT {slot} 1")).await;
        let Some(key) = keys.lines().nth(2) else { break };
        // It may have expired, or been dropped, meanwhile.
        from.send(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port)).await;
        all_right(server).await;
    }
    ok(to, format!("CLUSTER SETSLOT {slot} NODE {to_id}")).await;
    ok(from, format!("CLUSTER SETSLOT {slot} NODE {to_id}")).await;
}

// F16
#[tokio::test]
async fn slots_that_move_and_nodes_that_die_cost_misses() {
    let mut nodes = RedisCluster::start().await;
    let (server, cache) = serve(cluster(&nodes).await);
    all_right(&server).await;
    cache.flush().await;
    assert_eq!(all_right(&server).await, 30);
    let entry = nodes.nodes[0].keys("afc::v1:*").await.remove(0);
    for key in [entry.as_str(), "afc:{fences}"] {
        move_slot(&nodes, key, &server).await;
        wait_until(async || all_right(&server).await == 30).await;
        cache.invalidate_tag("pages").await.unwrap();
        assert_eq!(all_right(&server).await, 0, "dropped after {key} has moved");
        wait_until(async || all_right(&server).await == 30).await;
    }
    let (_, owner, _) = nodes.owner("afc:{fences}").await;
    let owner = owner.port;
    let dying = nodes.nodes.iter_mut().find(|node| node.port != owner).unwrap();
    dying.kill();
    for _ in 0..5 {
        all_right(&server).await;
    }
    // What the others have is still of use.
    wait_until(async || all_right(&server).await >= 15).await;
    nodes.nodes.iter_mut().find(|node| node.port == owner).unwrap().kill();
    for _ in 0..5 {
        all_right(&server).await;
    }
}
