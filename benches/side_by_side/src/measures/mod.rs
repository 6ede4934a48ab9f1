//! One file a measure. Each sets cells of the table; what fails is a dash with its error, and the others go on.

mod instructions;
mod large;
mod load;
mod memory;
mod miss;
mod stampede;

use std::error::Error;

use clap::ValueEnum;

use crate::client::Client;
use crate::contestant::{Contestant, Field, Running};
use crate::pages;
use crate::table::{Column, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// User-space instructions of the whole server for a hit
    Instructions,
    /// Requests a second, and CPU a request
    Load,
    /// A hit of 64 MiB: first byte, memory for slow clients
    Large,
    /// First byte of a miss that comes bit by bit
    Miss,
    /// 200 misses of one page at a time
    Stampede,
    /// Memory of 100,000 entries
    Memory,
}

pub type Outcome<T> = Result<T, Box<dyn Error>>;

impl Measure {
    pub fn run(self, field: &mut Field, contestants: &[Contestant], rounds: u32, table: &mut Table) {
        match self {
            Self::Load => {
                if let Err(error) = load::measure(field, contestants, rounds, table) {
                    table.notes.push(format!("load was not measured: {error}"));
                }
            }
            _ => {
                for contestant in contestants {
                    self.run_for(field, *contestant, table);
                }
            }
        }
    }

    fn run_for(self, field: &mut Field, contestant: Contestant, table: &mut Table) {
        eprintln!("{}: {}", self.name(), contestant.label());
        if let Some(reason) = self.cannot(contestant) {
            return self.columns().iter().for_each(|column| table.none(contestant, *column, reason));
        }
        let outcome = match self {
            Self::Instructions => instructions::measure(field, contestant, table),
            Self::Large => large::measure(field, contestant, table),
            Self::Miss => miss::measure(field, contestant, table),
            Self::Stampede => stampede::measure(field, contestant, table),
            Self::Memory => memory::measure(field, contestant, table),
            Self::Load => Ok(()),
        };
        if let Err(error) = outcome {
            self.columns()
                .iter()
                .for_each(|column| table.none(contestant, *column, format!("failed: {error}")));
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            Self::Instructions => &[Column::Instructions],
            Self::Load => &[Column::Rate, Column::Cpu],
            Self::Large => &[Column::LargeFirstByte, Column::LargeMemory],
            Self::Miss => &[Column::MissFirstByte],
            Self::Stampede => &[Column::StampedeRuns, Column::StampedeSlowest],
            Self::Memory => &[Column::EntryMemory],
        }
    }

    /// Why there is nothing to measure.
    fn cannot(self, contestant: Contestant) -> Option<&'static str> {
        Some(match (self, contestant) {
            (Self::Instructions, Contestant::Varnish) => {
                "two processes and a pool of threads that wake each other: not counted under callgrind"
            }
            (Self::Large, Contestant::ActixTower) => "stores bodies up to 1 MiB",
            (Self::Memory, Contestant::ActixTower) => "stores 1,000 entries",
            (Self::Memory, Contestant::B) => "stores nothing",
            (Self::Memory, Contestant::Nginx | Contestant::Varnish) => "not in the application's process",
            _ => return None,
        })
    }

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// How often the handlers behind a server ran.
fn handler_runs(server: &Running) -> Outcome<u64> {
    let told = Client::connect(server.handlers)?.get(pages::RUNS)?.beginning;
    Ok(std::str::from_utf8(&told)?.trim().parse()?)
}

/// Whether a page that was just asked for comes from the cache.
fn is_hit(server: &Running, path: &str) -> Outcome<bool> {
    let before = handler_runs(server)?;
    Client::connect(server.address)?.get(path)?;
    Ok(handler_runs(server)? == before)
}

/// Fails where a page that was asked for is not in the cache; without a cache it never is.
fn expect_hit(server: &Running, contestant: Contestant, path: &str) -> Outcome<()> {
    if contestant != Contestant::B && !is_hit(server, path)? {
        return Err(format!("{path} is not served from the cache").into());
    }
    Ok(())
}
