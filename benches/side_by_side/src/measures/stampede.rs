//! Two hundred requests at a time for a page that is not stored, and whose handler takes a while.

use std::time::{Duration, Instant};

use super::{Outcome, handler_runs};
use crate::client::Client;
use crate::contestant::{Contestant, Field, Running};
use crate::pages::slow_path;
use crate::table::{Column, Figure, Table};

const CLIENTS: usize = 200;
const SAMPLES: usize = 7;

struct Stampede {
    slowest: Duration,
    runs: u64,
}

pub fn measure(field: &mut Field, contestant: Contestant, table: &mut Table) -> Outcome<()> {
    let (bare, server) = (field.start(Contestant::B)?, field.start(contestant)?);
    let (mut most_runs, mut fastest) = (0, [Duration::MAX; 2]);
    // The first one is for warming up.
    for number in 0..=SAMPLES {
        let path = slow_path(number);
        let (bare, cached) = (stampede(&bare, &path)?, stampede(&server, &path)?);
        eprintln!("  slowest from b {:?}, from it {:?}, {} runs", bare.slowest, cached.slowest, cached.runs);
        if number > 0 {
            most_runs = most_runs.max(cached.runs);
            fastest = [fastest[0].min(bare.slowest), fastest[1].min(cached.slowest)];
        }
    }
    table.set(contestant, Column::StampedeRuns, Figure::one(most_runs as f64));
    let [bare, cached] = fastest.map(|slowest| slowest.as_secs_f64() * 1e3);
    table.set(contestant, Column::StampedeSlowest, Figure::one(cached - bare));
    Ok(())
}

fn stampede(server: &Running, path: &str) -> Outcome<Stampede> {
    let before = handler_runs(server)?;
    let clients: Result<Vec<Client>, _> = (0..CLIENTS).map(|_| Client::connect(server.address)).collect();
    let mut clients = clients?;
    let begin = Instant::now();
    for client in &mut clients {
        client.send(path)?;
    }
    for client in &mut clients {
        client.receive(begin)?;
    }
    let slowest = begin.elapsed();
    Ok(Stampede { slowest, runs: handler_runs(server)? - before })
}
