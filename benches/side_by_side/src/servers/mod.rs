//! The servers that are programs of this crate: one thread answers, signals end them at once.

mod actix;
mod axum;
mod salvo;

use std::net::SocketAddr;

pub use self::actix::Layer;

/// A server that runs until it is ended, and tells its address in the first line it prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Actix(Layer),
    Axum,
    Salvo,
}

pub fn serve(server: Server) -> std::io::Result<()> {
    match server {
        Server::Actix(layer) => actix::serve(layer),
        Server::Axum => on_one_thread(axum::serve()),
        Server::Salvo => on_one_thread(salvo::serve()),
    }
}

fn on_one_thread(server: impl Future<Output = std::io::Result<()>>) -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(server)
}

fn tell(address: SocketAddr) {
    println!("{address}");
}
