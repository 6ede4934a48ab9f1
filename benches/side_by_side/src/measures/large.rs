//! A hit of 64 MiB: its first byte, and what the server holds for clients that do not read on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Outcome, expect_hit};
use crate::client::Client;
use crate::contestant::{Contestant, Field};
use crate::pages::LARGE;
use crate::table::{Column, Figure, Table};

const SAMPLES: usize = 7;
const SLOW_CLIENTS: usize = 8;

pub fn measure(field: &mut Field, contestant: Contestant, table: &mut Table) -> Outcome<()> {
    let server = field.start(contestant)?;
    Client::connect(server.address)?.get(LARGE)?;
    expect_hit(&server, contestant, LARGE)?;

    let before = server.process.memory()?;
    let mut clients = Vec::new();
    for _ in 0..SLOW_CLIENTS {
        let mut client = Client::connect(server.address)?;
        client.peek(LARGE)?;
        clients.push(client);
    }
    let (begin, mut most) = (Instant::now(), before);
    while begin.elapsed() < Duration::from_millis(500) {
        most = most.max(server.process.memory()?);
        sleep(Duration::from_millis(50));
    }
    drop(clients);
    let each = (most - before) as f64 / SLOW_CLIENTS as f64 / f64::from(1 << 20);
    table.set(contestant, Column::LargeMemory, Figure::one(each));

    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        let answer = Client::connect(server.address)?.peek(LARGE)?;
        samples.push(answer.first_byte.as_secs_f64() * 1e3);
        sleep(Duration::from_millis(50));
    }
    table.set(contestant, Column::LargeFirstByte, Figure::median(samples));
    Ok(())
}
