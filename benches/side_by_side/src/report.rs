//! `docs/BENCHMARKS.md` and its plot.

use std::error::Error;
use std::fs;
use std::path::Path;

use crate::plot;
use crate::table::Table;
use crate::versions;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
/// What stands around the figures.
const TEXT: &str = include_str!("report.md");

pub fn write(table: &Table, rounds: u32, load: &str) -> Result<(), Box<dyn Error>> {
    let docs = Path::new(DOCS);
    fs::create_dir_all(docs)?;
    let text = TEXT
        .replace("{date}", &versions::date())
        .replace("{commit}", &versions::commit())
        .replace("{machine}", &versions::machine())
        .replace("{packages}", &versions::packages())
        .replace("{programs}", &versions::programs())
        .replace("{load}", load)
        .replace("{rounds}", &rounds.to_string())
        .replace("{table}", table.show().trim_end());
    // Both after the commit was read: they are files that differ from it.
    plot::draw(&docs.join("benchmarks.svg"), table)?;
    fs::write(docs.join("BENCHMARKS.md"), text)?;
    Ok(())
}
