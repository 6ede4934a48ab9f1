//! actix-fast-cache beside other caches, measured in one run: `benches/side_by_side/run`.
#![allow(clippy::disallowed_methods)] // it measures

mod client;
mod contestant;
mod measures;
mod pages;
mod plot;
mod process;
mod proxies;
mod report;
mod servers;
mod table;
mod versions;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::contestant::{Contestant, Field};
use crate::measures::Measure;
use crate::table::Table;

/// actix-fast-cache beside other caches, measured in one run.
#[derive(Parser)]
struct Arguments {
    /// Only these, beside b; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<Contestant>,
    /// Only these measures; may be given several times
    #[arg(long, value_name = "NAME")]
    measure: Vec<Measure>,
    /// Rounds of load
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Write docs/BENCHMARKS.md and docs/benchmarks.svg
    #[arg(long, conflicts_with_all = ["only", "measure"])]
    write: bool,
    #[arg(long, hide = true)]
    serve: Option<Contestant>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.serve {
        Some(contestant) => contestant.serve(),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side_by_side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> std::io::Result<()> {
    let load = versions::load();
    let mut field = Field::new()?;
    let mut table = Table::default();
    // b comes first: the others are compared with it.
    let is_in = |contestant: &Contestant| {
        *contestant == Contestant::B || arguments.only.is_empty() || arguments.only.contains(contestant)
    };
    let contestants: Vec<Contestant> = Contestant::value_variants().iter().copied().filter(is_in).collect();
    for measure in Measure::value_variants() {
        if arguments.measure.is_empty() || arguments.measure.contains(measure) {
            measure.run(&mut field, &contestants, arguments.rounds, &mut table);
        }
    }
    println!("{}", table.show());
    if arguments.write {
        report::write(&table, arguments.rounds, &load)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
    }
    Ok(())
}
