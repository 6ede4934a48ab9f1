//! How to get through to a server that takes writes, and to one that tells news.

use std::future::Future;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::SentinelClient;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, ProtocolVersion,
    PushInfo, RedisError, RedisFuture, RedisResult, Value,
};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// A server that does not answer the door within this time is not there.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A call that was given up by its caller is given up by the connection then, so that its place is free again.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Makes connections to the servers as they stand now.
pub(crate) enum Door {
    Single(Client),
    Sentinel(Mutex<SentinelClient>),
    /// With its nodes, one of which is asked where a key is.
    Cluster(ClusterClient, Vec<Client>),
}

impl Door {
    pub(crate) async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let connecting = async {
            match self {
                Self::Single(client) => {
                    client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Server)
                }
                Self::Sentinel(client) => {
                    let mut client = client.lock().await;
                    client.get_async_connection_with_config(&config).await.map(Connection::Server)
                }
                Self::Cluster(client, _) => client.get_async_connection().await.map(Connection::Cluster),
            }
        };
        in_time(connecting).await
    }

    /// A connection on which the server that has `key` tells news.
    pub(crate) async fn listen(
        &self,
        key: &str,
        news: UnboundedSender<PushInfo>,
    ) -> RedisResult<MultiplexedConnection> {
        in_time(async {
            match self {
                Self::Single(client) => listen(client.get_connection_info(), news).await,
                Self::Sentinel(client) => {
                    let client = client.lock().await.async_get_client().await?;
                    listen(client.get_connection_info(), news).await
                }
                Self::Cluster(_, nodes) => {
                    let mut last = RedisError::from((ErrorKind::Io, "no node can be reached"));
                    for node in nodes {
                        match listen_in_cluster(node.get_connection_info(), key, &news).await {
                            Ok(connection) => return Ok(connection),
                            Err(error) => last = error,
                        }
                    }
                    Err(last)
                }
            }
        })
        .await
    }

    /// Whether another server may take the place of one that will not take writes any more.
    pub(crate) fn may_lead_elsewhere(&self) -> bool {
        !matches!(self, Self::Single(_))
    }
}

/// Each step of connecting has its own limit, and there are several of them.
async fn in_time<T>(connecting: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(3 * CONNECT_WITHIN, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// News come by themselves in the third version of the protocol only.
async fn listen(
    server: &ConnectionInfo,
    news: UnboundedSender<PushInfo>,
) -> RedisResult<MultiplexedConnection> {
    let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(server.clone().set_redis_settings(settings))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN))
        .set_push_sender(news);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// At the node that has `key`: any other one says which that is.
async fn listen_in_cluster(
    node: &ConnectionInfo,
    key: &str,
    news: &UnboundedSender<PushInfo>,
) -> RedisResult<MultiplexedConnection> {
    // What is told when this one is left is no news.
    let (nobody, _nothing) = unbounded_channel();
    let mut asking = listen(node, nobody).await?;
    let asked = redis::cmd("ZCARD").arg(key).query_async::<u64>(&mut asking).await;
    let Err(error) = asked else { return listen(node, news.clone()).await };
    let Some((address, _)) = error.redirect_node() else { return Err(error) };
    let Some((host, port)) = address.rsplit_once(':') else { return Err(error) };
    let Ok(port) = port.parse() else { return Err(error) };
    let host = match (host, node.addr()) {
        // Where a node does not know its own name, it is found under the one that this one is asked by.
        ("" | "?", ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) => host.clone(),
        _ => host.to_owned(),
    };
    let address = match node.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    listen(&node.clone().set_addr(address), news.clone()).await
}

/// A connection to one server, or to all nodes of a cluster.
#[derive(Clone)]
pub(crate) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(server) => server.req_packed_command(command),
            Self::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(server) => server.req_packed_commands(commands, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(server) => server.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}
