//! What an entry takes beside its body of 1 KiB, of 100,000.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Outcome, handler_runs};
use crate::client::Client;
use crate::contestant::{Contestant, Field};
use crate::pages::{ENTRY_BYTES, entry_path};
use crate::table::{Column, Figure, Table};

const ENTRIES: usize = 100_000;
const WARM_UP: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);
/// One in this many is asked for again, to see that it was kept.
const LOOKED_AT: usize = 100;

pub fn measure(field: &mut Field, contestant: Contestant, table: &mut Table) -> Outcome<()> {
    let server = field.start(contestant)?;
    let mut client = Client::connect(server.address)?;
    for number in 0..WARM_UP {
        client.get(&entry_path(number))?;
    }
    let (before, begin) = (server.process.memory()?, Instant::now());
    for number in WARM_UP..WARM_UP + ENTRIES {
        if begin.elapsed() > PATIENCE {
            return Err(format!("{} entries took longer than {PATIENCE:?}", number - WARM_UP).into());
        }
        client.get(&entry_path(number))?;
    }
    sleep(Duration::from_secs(1));
    let grown = server.process.memory()? as f64 - before as f64;
    let each = grown / ENTRIES as f64 - ENTRY_BYTES as f64;

    let runs = handler_runs(&server)?;
    for number in (WARM_UP..WARM_UP + ENTRIES).step_by(LOOKED_AT) {
        client.get(&entry_path(number))?;
    }
    let missing = handler_runs(&server)? - runs;
    if missing > 0 {
        return Err(format!("{missing} of {} entries were not kept", ENTRIES / LOOKED_AT).into());
    }
    table.set(contestant, Column::EntryMemory, Figure::one(each));
    Ok(())
}
