//! The figures, and the one table they are printed in.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::contestant::Contestant;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    Instructions,
    Rate,
    Cpu,
    LargeFirstByte,
    LargeMemory,
    MissFirstByte,
    StampedeRuns,
    StampedeSlowest,
    EntryMemory,
}

pub const COLUMNS: [Column; 9] = [
    Column::Instructions,
    Column::Rate,
    Column::Cpu,
    Column::LargeFirstByte,
    Column::LargeMemory,
    Column::MissFirstByte,
    Column::StampedeRuns,
    Column::StampedeSlowest,
    Column::EntryMemory,
];

/// A median with its quartiles, or one number.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub middle: f64,
    pub quartiles: Option<(f64, f64)>,
}

#[derive(Debug, Clone)]
enum Cell {
    Figure(Figure),
    /// A dash, and why.
    None(String),
}

#[derive(Default)]
pub struct Table {
    cells: BTreeMap<(Contestant, Column), Cell>,
    pub notes: Vec<String>,
    /// What others' instructions are divided by.
    pub base_instructions: f64,
}

impl Column {
    /// Two lines of a heading.
    pub fn heading(self) -> [&'static str; 2] {
        match self {
            Self::Instructions => ["instructions", "a hit, x b"],
            Self::Rate => ["requests/s", "of hits, x b"],
            Self::Cpu => ["CPU a hit,", "x b"],
            Self::LargeFirstByte => ["64 MiB hit:", "1st byte, ms"],
            Self::LargeMemory => ["MiB a slow", "client"],
            Self::MissFirstByte => ["miss: 1st", "byte, +ms"],
            Self::StampedeRuns => ["200 misses:", "runs"],
            Self::StampedeSlowest => ["slowest,", "+ms"],
            Self::EntryMemory => ["bytes an", "entry, +"],
        }
    }

    fn decimals(self) -> usize {
        match self {
            Self::StampedeRuns | Self::EntryMemory => 0,
            Self::StampedeSlowest | Self::LargeMemory => 1,
            Self::Instructions | Self::Rate | Self::Cpu | Self::LargeFirstByte | Self::MissFirstByte => 2,
        }
    }

    /// What this crate is measured against: a target, and a stretch.
    fn marks(self) -> Option<[f64; 2]> {
        Some(match self {
            Self::Instructions => [1.0, 0.9],
            Self::Rate => [0.95, 1.0],
            Self::Cpu => return None,
            Self::LargeFirstByte => [5.0, 2.0],
            Self::LargeMemory => [2.0, 1.0],
            Self::MissFirstByte => [0.5, 0.1],
            Self::StampedeRuns => [1.0, 1.0],
            Self::StampedeSlowest => [20.0, 5.0],
            Self::EntryMemory => [950.0, 750.0],
        })
    }

    fn mark(self, which: usize) -> String {
        let Some(mark) = self.marks().and_then(|marks| marks.get(which).copied()) else {
            return String::new();
        };
        let sign = if self == Self::Rate { ">=" } else { "<=" };
        format!("{sign} {mark:.*}", self.decimals())
    }

    pub fn show(self, figure: Figure) -> String {
        let decimals = self.decimals();
        match figure.quartiles {
            Some((low, high)) => format!("{:.decimals$} ({low:.decimals$}-{high:.decimals$})", figure.middle),
            None => format!("{:.decimals$}", figure.middle),
        }
    }
}

impl Figure {
    pub fn one(number: f64) -> Self {
        Self { middle: number, quartiles: None }
    }

    pub fn median(numbers: impl IntoIterator<Item = f64>) -> Self {
        Self { quartiles: None, ..Self::spread(numbers) }
    }

    pub fn spread(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        // Between two numbers, in proportion.
        let quartile = |quarter: f64| {
            let place = numbers.len().saturating_sub(1) as f64 * quarter / 4.0;
            let at = |place: f64| numbers.get(place as usize).copied().unwrap_or(f64::NAN);
            at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
        };
        Self { middle: quartile(2.0), quartiles: Some((quartile(1.0), quartile(3.0))) }
    }
}

impl Table {
    pub fn set(&mut self, contestant: Contestant, column: Column, figure: Figure) {
        self.cells.insert((contestant, column), Cell::Figure(figure));
    }

    pub fn none(&mut self, contestant: Contestant, column: Column, reason: impl ToString) {
        self.cells.insert((contestant, column), Cell::None(reason.to_string()));
    }

    pub fn figure(&self, contestant: Contestant, column: Column) -> Option<Figure> {
        match self.cells.get(&(contestant, column))? {
            Cell::Figure(figure) => Some(*figure),
            Cell::None(_) => None,
        }
    }

    pub fn contestants(&self) -> Vec<Contestant> {
        let mut contestants: Vec<Contestant> = self.cells.keys().map(|(contestant, _)| *contestant).collect();
        contestants.dedup();
        contestants
    }

    /// Aligned, and right as Markdown too.
    pub fn show(&self) -> String {
        let mut reasons: Vec<&str> = Vec::new();
        let mut rows = vec![
            std::iter::once(String::new())
                .chain(COLUMNS.map(|column| column.heading().join(" ")))
                .collect::<Vec<_>>(),
        ];
        for contestant in self.contestants() {
            let mut row = vec![contestant.label().to_owned()];
            for column in COLUMNS {
                row.push(match self.cells.get(&(contestant, column)) {
                    Some(Cell::Figure(figure)) => column.show(*figure),
                    Some(Cell::None(reason)) => {
                        let known = reasons.iter().position(|known| known == reason);
                        let number = known.unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        format!("- [{}]", number + 1)
                    }
                    None => String::new(),
                });
            }
            rows.push(row);
        }
        for (which, name) in ["target for this crate", "stretch"].into_iter().enumerate() {
            let marks = COLUMNS.map(|column| column.mark(which));
            rows.push(std::iter::once(name.to_owned()).chain(marks).collect());
        }
        let mut text = aligned(&rows);
        text.push('\n');
        for (number, reason) in reasons.into_iter().enumerate() {
            let _ = writeln!(text, "- [{}] {reason}", number + 1);
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 {
                write!(text, "| {cell:<width$}")
            } else {
                write!(text, " | {cell:>width$}")
            };
        }
        text.push_str(" |\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(*width);
                let _ = if column == 0 {
                    write!(text, "|-{dashes}-")
                } else {
                    write!(text, "|-{}-:", dashes.get(1..).unwrap_or_default())
                };
            }
            text.push_str("|\n");
        }
    }
    text
}
