//! A proxy before a server that does to its answers what networks and servers in trouble do.
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used)] // it is test code

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// What happens to the bytes that come back.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    None,
    /// Each read comes so much later.
    Latency(Duration),
    /// One byte at a time, so far apart.
    Trickle(Duration),
    /// After so many bytes of a connection it is reset.
    CutAfter(usize),
    /// Accepted, and never answered.
    Hang,
    /// This comes instead of any answer.
    Garbage(&'static [u8]),
    /// Connections are closed as soon as they are made.
    Close,
}

/// Listens on a port of its own; what it does can be changed at any time, for connections under way too.
#[derive(Clone)]
pub struct FaultProxy {
    pub port: u16,
    fault: Arc<Mutex<Fault>>,
}

impl FaultProxy {
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(Mutex::new(Fault::None));
        let proxy = Self { port, fault };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(client, server));
            }
        });
        proxy
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn fault(&self) -> Fault {
        self.fault.lock().unwrap().clone()
    }

    async fn serve(self, client: TcpStream, server: u16) {
        if self.fault() == Fault::Close {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
        // Without this the proxy is slow in health: small writes wait for each other's acknowledgement.
        client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).unwrap();
        let (mut from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        let back = tokio::spawn(self.back(from_server, to_client));
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        back.abort();
    }

    async fn back(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (mut sent, mut bytes) = (0, vec![0; 64 << 10]);
        loop {
            let Ok(len @ 1..) = from.read(&mut bytes).await else { return };
            let mut chunk = &bytes[..len];
            match self.fault() {
                Fault::None => {}
                Fault::Latency(time) => sleep(time).await,
                Fault::Trickle(apart) => {
                    for byte in chunk {
                        // The fault may be over before the answer is.
                        if matches!(self.fault(), Fault::Trickle(_)) {
                            sleep(apart).await;
                        }
                        if to.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                    }
                    continue;
                }
                Fault::CutAfter(most) => {
                    if sent + len > most {
                        let _ = to.write_all(&chunk[..most.saturating_sub(sent)]).await;
                        return to.forget_and_reset();
                    }
                }
                Fault::Hang => {
                    while self.fault() == Fault::Hang {
                        sleep(Duration::from_millis(5)).await;
                    }
                    return;
                }
                Fault::Garbage(garbage) => chunk = garbage,
                Fault::Close => return,
            }
            sent += len;
            if to.write_all(chunk).await.is_err() {
                return;
            }
        }
    }
}

trait Reset {
    fn forget_and_reset(self);
}

impl Reset for OwnedWriteHalf {
    fn forget_and_reset(self) {
        let _ = self.as_ref().set_zero_linger();
    }
}
