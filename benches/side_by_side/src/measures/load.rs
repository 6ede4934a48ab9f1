//! Requests a second and CPU a request for hits of 100 bytes, in rounds in which all servers take turns.

use std::process::Command;
use std::time::Duration;

use super::{Outcome, expect_hit};
use crate::client::Client;
use crate::contestant::{Contestant, Field, Running};
use crate::pages::SMALL;
use crate::table::{Column, Figure, Table};

const CONNECTIONS: u32 = 64;
/// With b less busy than this the server is not what limits the requests.
const SATURATED: f64 = 0.8;

struct Slice {
    rate: f64,
    cpu: Duration,
    took: Duration,
    requests: f64,
}

impl Slice {
    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() / self.requests
    }
}

pub fn measure(field: &mut Field, contestants: &[Contestant], rounds: u32, table: &mut Table) -> Outcome<()> {
    let mut servers = Vec::new();
    for contestant in contestants {
        let started = field.start(*contestant).map_err(Into::into).and_then(|server| {
            Client::connect(server.address)?.get(SMALL)?;
            expect_hit(&server, *contestant, SMALL)?;
            Ok(server)
        });
        match started {
            Ok(server) => servers.push((*contestant, server)),
            Err(error) if *contestant == Contestant::B => return Err(error),
            Err(error) => {
                table.none(*contestant, Column::Rate, format!("failed: {error}"));
                table.none(*contestant, Column::Cpu, format!("failed: {error}"));
            }
        }
    }
    let mut slices: Vec<Vec<Slice>> = servers.iter().map(|_| Vec::new()).collect();
    // The first round is for warming up.
    for round in 0..=rounds {
        eprintln!("load: round {round} of {rounds}");
        let mut order: Vec<_> = servers.iter().zip(&mut slices).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for ((_, server), slices) in order {
            let slice = slice(field, server)?;
            if round > 0 {
                slices.push(slice);
            }
        }
    }
    let Some(base) = slices.first() else { return Ok(()) };
    for ((contestant, _), slices) in servers.iter().zip(&slices) {
        let ratios = |of: fn(&Slice) -> f64| {
            Figure::spread(slices.iter().zip(base).map(|(slice, base)| of(slice) / of(base)))
        };
        table.set(*contestant, Column::Rate, ratios(|slice| slice.rate));
        table.set(*contestant, Column::Cpu, ratios(Slice::cpu_each));
    }
    let rate = Figure::median(base.iter().map(|slice| slice.rate)).middle;
    let cpu = Figure::median(base.iter().map(Slice::cpu_each)).middle * 1e6;
    let busy =
        Figure::median(base.iter().map(|slice| slice.cpu.as_secs_f64() / slice.took.as_secs_f64())).middle;
    table.notes.push(format!(
        "b answers {rate:.0} requests/s, {cpu:.1} us of CPU each; its processor is busy {:.0} % of the time",
        busy * 100.0
    ));
    if busy < SATURATED {
        table.notes.push(
            "**other work on the machine, or the client, set the pace in this run: requests/s say little, and CPU is to be read with its spread**"
                .to_owned(),
        );
    }
    Ok(())
}

fn slice(field: &Field, server: &Running) -> Outcome<Slice> {
    let before = server.process.cpu()?;
    let output = Command::new("taskset")
        .args(["-c", &field.client_processor.to_string(), "wrk", "-t1", "-d1s", "--timeout", "5s"])
        .args([&format!("-c{CONNECTIONS}"), &format!("http://{}{SMALL}", server.address)])
        .output()?;
    let cpu = server.process.cpu()? - before;
    let told = String::from_utf8_lossy(&output.stdout);
    if told.contains("Non-2xx") || told.contains("Socket errors") || !output.status.success() {
        return Err(told.into());
    }
    let after = |name: &str| told.split(name).nth(1)?.split_whitespace().next()?.parse::<f64>().ok();
    let rate = after("Requests/sec:").ok_or("wrk told no rate")?;
    let requests = told
        .lines()
        .find_map(|line| line.split_once(" requests in ")?.0.trim().parse::<f64>().ok())
        .ok_or("wrk told no requests")?;
    Ok(Slice { rate, cpu, took: Duration::from_secs_f64(requests / rate), requests })
}
