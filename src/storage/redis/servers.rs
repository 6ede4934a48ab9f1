//! Where the servers are.

use std::fmt;

use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisResult};
#[cfg(feature = "redis-tls")]
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::Mutex;

use crate::storage::error::StorageError;
use crate::storage::redis::door::{ANSWER_WITHIN, CONNECT_WITHIN, Door};

/// Where Redis or Valkey is: one server, a master that sentinels watch, or a cluster.
///
/// URLs are `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, or `rediss://...` for TLS (feature `redis-tls`). Nothing
/// is connected here.
///
/// ```
/// use actix_fast_cache::{RedisServers, RedisStorage};
///
/// let sentinels = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379", "redis://10.0.0.3:26379"];
/// let servers = RedisServers::sentinel(sentinels, "redis://app:secret@mymaster/0")?;
/// let storage = RedisStorage::new(servers, "shop")?;
/// # drop(storage);
/// # Ok::<(), actix_fast_cache::StorageError>(())
/// ```
#[derive(Clone)]
pub struct RedisServers {
    kind: Kind,
    #[cfg(feature = "redis-tls")]
    tls: Option<redis::TlsCertificates>,
}

#[derive(Clone)]
enum Kind {
    Single(ConnectionInfo),
    Sentinel { sentinels: Vec<ConnectionInfo>, master: ConnectionInfo },
    Cluster(Vec<ConnectionInfo>),
}

impl RedisServers {
    /// One server.
    ///
    /// # Errors
    /// If the URL is none, or asks for TLS without the feature.
    pub fn single(url: &str) -> Result<Self, StorageError> {
        Ok(Self::of(Kind::Single(parse(url)?)))
    }

    /// The master of a group that sentinels watch. They are asked for it whenever a connection is made, so that a
    /// failover costs some misses; writes that it lost are lost, invalidations among them.
    ///
    /// `master` is the URL of a server with the name of the group in place of its host, `redis://mymaster`: user,
    /// password, database and TLS are those of the server. Those of the sentinels are in their own URLs, and the same in
    /// all.
    ///
    /// # Errors
    /// If a URL is none, or asks for TLS without the feature, or no sentinel is named.
    pub fn sentinel<'a>(
        sentinels: impl IntoIterator<Item = &'a str>,
        master: &str,
    ) -> Result<Self, StorageError> {
        let (sentinels, master) = (parse_all(sentinels)?, parse(master)?);
        Ok(Self::of(Kind::Sentinel { sentinels, master }))
    }

    /// A cluster, by the URLs of some of its nodes. Entries are spread over its slots; fences are in one slot, so that
    /// an invalidation is one call whatever it drops, and the node of that slot sees every lookup.
    ///
    /// A lookup asks two nodes at once. An acknowledged invalidation that a failover loses is lost.
    ///
    /// # Errors
    /// If a URL is none, or asks for TLS without the feature, or none is named.
    pub fn cluster<'a>(nodes: impl IntoIterator<Item = &'a str>) -> Result<Self, StorageError> {
        Ok(Self::of(Kind::Cluster(parse_all(nodes)?)))
    }

    /// Trusts servers whose certificates one of these signed, PEM, in place of those that the system trusts.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates().root_cert = Some(pem.into());
        self
    }

    /// Shows this certificate to servers that ask for one (mutual TLS): PEM, with its key.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let shown = redis::ClientTlsConfig { client_cert: pem.into(), client_key: key.into() };
        self.certificates().client_tls = Some(shown);
        self
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            #[cfg(feature = "redis-tls")]
            tls: None,
        }
    }

    #[cfg(feature = "redis-tls")]
    fn certificates(&mut self) -> &mut redis::TlsCertificates {
        self.tls.get_or_insert(redis::TlsCertificates { client_tls: None, root_cert: None })
    }

    /// What makes connections to them.
    pub(crate) fn door(&self) -> Result<Door, StorageError> {
        #[cfg(feature = "redis-tls")]
        if self.tls.is_some() || self.kind.infos().any(is_tls) {
            // The client panics where it finds none, or two to choose from; one that the application installed stays.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        #[cfg(feature = "redis-tls")]
        if let Some(roots) = self.tls.as_ref().and_then(|tls| tls.root_cert.as_deref())
            && !matches!(CertificateDer::pem_slice_iter(roots).next(), Some(Ok(_)))
        {
            // To the client this is a list of none: every server would be a stranger.
            return Err(StorageError::new("no certificate in PEM among the root certificates"));
        }
        self.open().map_err(|error| StorageError::with_source("these Redis servers cannot be used", error))
    }

    fn client(&self, info: &ConnectionInfo) -> RedisResult<Client> {
        #[cfg(feature = "redis-tls")]
        if let Some(tls) = &self.tls {
            return Client::build_with_tls(info.clone(), tls.clone());
        }
        Client::open(info.clone())
    }

    fn open(&self) -> RedisResult<Door> {
        match &self.kind {
            Kind::Single(info) => Ok(Door::Single(self.client(info)?)),
            Kind::Sentinel { sentinels, master } => {
                #[allow(unused_mut)] // certificates are a feature
                let mut client = sentinel_client(sentinels, master)?;
                #[cfg(feature = "redis-tls")]
                if let Some(tls) = &self.tls {
                    client = client.set_client_to_redis_certificates(tls.clone());
                    if sentinels.iter().any(is_tls) {
                        client = client.set_client_to_sentinel_certificates(tls.clone());
                    }
                }
                Ok(Door::Sentinel(Mutex::new(client.build()?)))
            }
            Kind::Cluster(nodes) => {
                #[allow(unused_mut)] // certificates are a feature
                let mut client = ClusterClient::builder(nodes.clone())
                    .tcp_settings(prompt())
                    .connection_timeout(CONNECT_WITHIN)
                    .response_timeout(ANSWER_WITHIN)
                    // The caller's deadline is short: where a slot is moving there is time for some turns, not for naps.
                    .retries(4)
                    .min_retry_wait(2)
                    .max_retry_wait(20);
                #[cfg(feature = "redis-tls")]
                if let Some(tls) = &self.tls {
                    client = client.certs(tls.clone());
                }
                let nodes = nodes.iter().map(|node| self.client(node)).collect::<RedisResult<_>>()?;
                Ok(Door::Cluster(client.build()?, nodes))
            }
        }
    }
}

impl Kind {
    fn infos(&self) -> impl Iterator<Item = &ConnectionInfo> {
        let (one, many) = match self {
            Self::Single(info) => (Some(info), &[] as &[_]),
            Self::Sentinel { sentinels, master } => (Some(master), sentinels.as_slice()),
            Self::Cluster(nodes) => (None, nodes.as_slice()),
        };
        one.into_iter().chain(many)
    }
}

fn parse(url: &str) -> Result<ConnectionInfo, StorageError> {
    if url.starts_with("rediss:") && !cfg!(feature = "redis-tls") {
        return Err(StorageError::new("rediss:// needs the feature redis-tls of actix-fast-cache"));
    }
    url.into_connection_info()
        .map(|info| info.set_tcp_settings(prompt()))
        .map_err(|error| StorageError::with_source("not a URL of a Redis server", error))
}

/// A call that is sent while others wait for their answers is not held back.
fn prompt() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn parse_all<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Vec<ConnectionInfo>, StorageError> {
    let infos = urls.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if infos.is_empty() { Err(StorageError::new("no Redis server is named")) } else { Ok(infos) }
}

#[cfg(feature = "redis-tls")]
fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

fn sentinel_client(
    sentinels: &[ConnectionInfo],
    master: &ConnectionInfo,
) -> RedisResult<SentinelClientBuilder> {
    let (group, is_secret) = match master.addr() {
        ConnectionAddr::Tcp(group, _) => (group.as_str(), false),
        ConnectionAddr::TcpTls { host: group, .. } => (group.as_str(), true),
        // A socket has no name: the sentinels will not know this one.
        _ => ("", false),
    };
    let addresses = sentinels.iter().map(|info| info.addr().clone());
    let mut client = SentinelClientBuilder::new(addresses, group, SentinelServerType::Master)?
        .set_client_to_redis_tcp_settings(prompt())
        .set_client_to_redis_db(master.redis_settings().db())
        .set_client_to_redis_protocol(master.redis_settings().protocol());
    if is_secret {
        client = client.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
    }
    if let Some(user) = master.redis_settings().username() {
        client = client.set_client_to_redis_username(user);
    }
    if let Some(password) = master.redis_settings().password() {
        client = client.set_client_to_redis_password(password);
    }
    let first = sentinels.first().map(ConnectionInfo::redis_settings);
    if let Some(user) = first.and_then(|settings| settings.username()) {
        client = client.set_client_to_sentinel_username(user);
    }
    if let Some(password) = first.and_then(|settings| settings.password()) {
        client = client.set_client_to_sentinel_password(password);
    }
    Ok(client)
}

impl fmt::Debug for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No users, no passwords.
        f.debug_list().entries(self.kind.infos().map(|info| info.addr().to_string())).finish()
    }
}
