//! A caching reverse proxy: every request is forwarded to one origin, unless the cache knows the answer.
//!
//! ```text
//! cargo run --release --example reverse_proxy -- --origin http://127.0.0.1:8000
//! ```

mod args;
mod forward;

use actix_web::{App, HttpServer, dev::Service as _, web};
use clap::Parser as _;

use crate::{
    args::Args,
    forward::{Origin, forward, settle},
};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let authority = args.origin.clone();

    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Origin::new(authority.clone())))
            // cache goes here
            // The last layer is the outermost: the cache sees requests settled.
            .wrap_fn(|mut request, next| {
                settle(request.head_mut());
                next.call(request)
            })
            .default_service(web::to(forward))
    });
    if let Some(workers) = args.workers {
        server = server.workers(workers.get());
    }
    let server = server.bind(&args.listen)?;
    for address in server.addrs() {
        eprintln!("listening on http://{address}, forwarding to http://{}", args.origin);
    }
    server.run().await
}
