//! User-space instructions of the whole server for a hit of 100 bytes, on one connection that is kept.
//!
//! Two runs that differ in the number of requests: what starting and ending costs drops out.

use super::{Outcome, expect_hit};
use crate::client::Client;
use crate::contestant::{Contestant, Field, Under};
use crate::pages::SMALL;
use crate::table::{Column, Figure, Table};

const FEW: u32 = 300;
const MANY: u32 = 1_300;

pub fn measure(field: &mut Field, contestant: Contestant, table: &mut Table) -> Outcome<()> {
    let hit =
        (collected(field, contestant, MANY)? - collected(field, contestant, FEW)?) / f64::from(MANY - FEW);
    // The first one measured.
    if contestant == Contestant::B {
        table.notes.push(format!("b takes {hit:.0} instructions a request"));
        table.base_instructions = hit;
    }
    table.set(contestant, Column::Instructions, Figure::one(hit / table.base_instructions));
    Ok(())
}

fn collected(field: &mut Field, contestant: Contestant, requests: u32) -> Outcome<f64> {
    let server = field.start_under(contestant, Under::Callgrind)?;
    {
        let mut client = Client::connect(server.address)?;
        client.get(SMALL)?;
        expect_hit(&server, contestant, SMALL)?;
        for _ in 0..requests {
            client.get(SMALL)?;
        }
    }
    let told = server.end()?;
    let collected = told.lines().find_map(|line| line.split("Collected : ").nth(1));
    Ok(collected.ok_or(told.as_str())?.trim().parse()?)
}
