//! What the README shows compiles, and is as short as it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

/// The first example, as it stands in README.md.
mod first_example {
    use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
    use actix_web::{App, HttpServer, web};

    async fn show(id: web::Path<u64>) -> String {
        format!("product {id}")
    }

    #[actix_web::main]
    pub(crate) async fn main() -> std::io::Result<()> {
        let cache = CacheConfig::builder(MemoryStorage::new()).build()?; // once, outside the closure
        HttpServer::new(move || {
            App::new().service(
                web::scope("/products")
                    .wrap(FastCache::new(cache.clone()))
                    .route("/{id}", web::get().to(show)),
            )
        })
        .bind(("127.0.0.1", 8080))?
        .run()
        .await
    }
}

fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn the_first_example_compiles_and_has_under_20_lines() {
    let _: fn() -> std::io::Result<()> = first_example::main;
    let readme = include_str!("../README.md");
    let shown = readme.split("```rust").nth(1).unwrap();
    let (_, shown) = shown.split_once('\n').unwrap();
    let shown = shown.split("```").next().unwrap();
    let here = include_str!("readme.rs").split("mod first_example {").nth(1).unwrap();
    let here = here.split("\n}\n").next().unwrap().replace("pub(crate) ", "");
    assert_eq!(without_spaces(shown), without_spaces(&here));
    assert!(shown.trim().lines().count() < 20);
}

#[test]
fn every_setter_of_the_table_is_one_and_every_setter_is_in_it() {
    let readme = include_str!("../README.md");
    let table = readme.split("\n## Defaults\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let files = [
        include_str!("../src/builder.rs"),
        include_str!("../src/setters/answers.rs"),
        include_str!("../src/setters/keys.rs"),
        include_str!("../src/setters/lifetimes.rs"),
        include_str!("../src/setters/requests.rs"),
        include_str!("../src/setters/stale.rs"),
        include_str!("../src/setters/waiting.rs"),
    ];
    let setters: Vec<&str> = files
        .iter()
        .flat_map(|file| {
            let (_, builder) = file.split_once("impl CacheConfigBuilder {").unwrap();
            let builder = builder.split("\n}\n").next().unwrap();
            builder.split("    pub fn ").skip(1).map(|text| text.split(['(', '<']).next().unwrap())
        })
        // The clock is for tests.
        .filter(|name| !["build", "clock"].contains(name))
        .collect();
    assert!(setters.len() > 30, "{setters:?}");
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cell = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        for name in cell.split('`').skip(1).step_by(2).filter(|name| !name.contains("::")) {
            assert!(setters.contains(&name), "no such setter: {name}");
        }
    }
    let missing: Vec<_> = setters.iter().filter(|name| !table.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}
