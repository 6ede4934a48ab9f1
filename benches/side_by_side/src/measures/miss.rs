//! The first byte of a miss of 1 MiB that its handler streams, over the first byte from the bare handler.

use super::{Outcome, is_hit};
use crate::client::Client;
use crate::contestant::{Contestant, Field};
use crate::pages::stream_path;
use crate::table::{Column, Figure, Table};

const SAMPLES: usize = 11;

pub fn measure(field: &mut Field, contestant: Contestant, table: &mut Table) -> Outcome<()> {
    let (bare, server) = (field.start(Contestant::B)?, field.start(contestant)?);
    let (mut bare_client, mut client) = (Client::connect(bare.address)?, Client::connect(server.address)?);
    let mut samples = Vec::new();
    // The first one is for warming up.
    for number in 0..=SAMPLES {
        let path = stream_path(number);
        let [bare, cached] = [bare_client.get(&path)?, client.get(&path)?].map(|answer| answer.first_byte);
        if number > 0 {
            samples.push((cached.as_secs_f64() - bare.as_secs_f64()) * 1e3);
        }
    }
    table.set(contestant, Column::MissFirstByte, Figure::median(samples));
    if contestant != Contestant::B && !is_hit(&server, &stream_path(SAMPLES))? {
        table.notes.push(format!("{} passes streams on and does not store them", contestant.label()));
    }
    Ok(())
}
