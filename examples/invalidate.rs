//! Users by id: whoever renames one drops the answer that shows the old name.

use std::collections::HashMap;

use actix_fast_cache::{CacheConfig, CacheControl, FastCache, MemoryStorage};
use actix_web::error::{Error, ErrorNotFound};
use actix_web::{App, HttpServer, Responder, web};
use tokio::sync::RwLock;

type Users = RwLock<HashMap<u64, String>>;

/// The name of a user's answer in the cache: made here for those who read and for those who write.
fn user_key(id: u64) -> String {
    format!("user:{id}")
}

async fn show(id: web::Path<u64>, users: web::Data<Users>) -> Result<impl Responder, Error> {
    println!("looking up user {id}");
    let users = users.read().await;
    let name = users.get(&id).ok_or_else(|| ErrorNotFound("no such user\n"))?;
    Ok(format!("user {id} is {name}\n"))
}

async fn rename(
    id: web::Path<u64>,
    name: String,
    users: web::Data<Users>,
    cache: CacheControl,
) -> Result<impl Responder, Error> {
    match users.write().await.get_mut(&id) {
        Some(known) => *known = name,
        None => return Err(ErrorNotFound("no such user\n")),
    }
    // After the write: from here on nobody gets the old name, not even from a request that is still under way.
    let dropped = cache.invalidate(&user_key(*id)).await?;
    Ok(format!("renamed, {dropped} stored answer dropped\n"))
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());

    let users = [(1, "Ada"), (2, "Grace")].map(|(id, name)| (id, name.to_owned()));
    let users = web::Data::new(Users::new(HashMap::from(users)));

    // Parsed, as the handler parses it: `/users/01` is user 1 too. What does not parse is not cached.
    let cache = CacheConfig::builder(MemoryStorage::new())
        .namespace("users")
        .key_builder(|req| req.match_info().get("id")?.parse().ok().map(user_key))
        .build()?;

    println!("listening on http://{address}/users/1");
    HttpServer::new(move || {
        App::new().app_data(users.clone()).service(
            // On the resource, not on a scope around it: there the id is not known yet.
            web::resource("/users/{id}")
                .wrap(FastCache::new(cache.clone()))
                .route(web::get().to(show))
                .route(web::patch().to(rename)),
        )
    })
    .bind(address)?
    .run()
    .await
}
