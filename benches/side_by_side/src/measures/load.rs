//! Requests a second and CPU a request for hits of 100 bytes, in rounds in which all servers take turns.
//!
//! Each round has processes of its own: where a process comes to lie in memory makes it up to a tenth faster or slower
//! for as long as it runs, and that should weigh no more than anything else in a round.

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
    let mut runners: Vec<(Contestant, Vec<Slice>)> =
        contestants.iter().map(|one| (*one, Vec::new())).collect();
    for round in 1..=rounds {
        eprintln!("load: round {round} of {rounds}");
        // Backwards every second time; b is the first one and has to be there for the others' ratios.
        let mut order: Vec<usize> = (0..runners.len()).collect();
        if round % 2 == 0 {
            order.reverse();
        }
        let mut failed = Vec::new();
        for at in order {
            let Some((contestant, slices)) = runners.get_mut(at) else { continue };
            match of_a_new_process(field, *contestant) {
                Ok(slice) => slices.push(slice),
                Err(error) if *contestant == Contestant::B => return Err(error),
                Err(error) => {
                    table.none(*contestant, Column::Rate, format!("failed: {error}"));
                    table.none(*contestant, Column::Cpu, format!("failed: {error}"));
                    failed.push(*contestant);
                }
            }
        }
        runners.retain(|(contestant, _)| !failed.contains(contestant));
    }
    let Some((_, base)) = runners.first() else { return Ok(()) };
    for (contestant, slices) in &runners {
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

/// What a process does that has just been started and warmed up.
fn of_a_new_process(field: &mut Field, contestant: Contestant) -> Outcome<Slice> {
    let server = field.start(contestant)?;
    Client::connect(server.address)?.get(SMALL)?;
    expect_hit(&server, contestant, SMALL)?;
    slice(field, &server)?;
    slice(field, &server)
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
