//! Bars beside the bare handler, as SVG.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contestant::Contestant;
use crate::table::{Column, Table};

const PANELS: [(Column, &str); 3] = [
    (Column::Instructions, "User-space instructions of a hit (less is better)"),
    (Column::Cpu, "CPU time of a hit (less is better)"),
    (Column::Rate, "Requests a second on one processor, hits (more is better)"),
];
const SIZE: (u32, u32) = (900, 1_020);
const BASE: RGBColor = RGBColor(120, 120, 120);
const OURS: RGBColor = RGBColor(31, 111, 182);
const OTHERS: RGBColor = RGBColor(176, 196, 216);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub fn draw(path: &Path, table: &Table) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.margin(10, 0, 0, 0).titled(
        "A hit of 100 bytes, beside the bare actix-web handler; black: quartiles",
        ("sans-serif", 24),
    )?;
    for ((column, title), area) in PANELS.iter().zip(area.split_evenly((PANELS.len(), 1))) {
        panel(&area, *column, title, table)?;
    }
    area.present()?;
    Ok(())
}

fn panel(area: &Area<'_>, column: Column, title: &str, table: &Table) -> Result<(), Box<dyn Error>> {
    let mut contestants = table.contestants();
    // Upwards, as the axis counts.
    contestants.reverse();
    let figure = |contestant: Contestant| table.figure(contestant, column);
    let most = contestants
        .iter()
        .filter_map(|contestant| figure(*contestant))
        .fold(1.0, |most, figure| f64::max(most, figure.quartiles.map_or(figure.middle, |(_, high)| high)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(8)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(210)
        .build_cartesian_2d(0.0..most * 1.3, (0..contestants.len().saturating_sub(1)).into_segmented())?;
    let label = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(row) => {
            contestants.get(*row).map_or("", |contestant| contestant.label()).to_owned()
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(10)
        .y_labels(contestants.len())
        .x_desc("times the bare handler")
        .axis_desc_style(("sans-serif", 14))
        .label_style(("sans-serif", 14))
        .x_label_formatter(&|times| format!("{times:.1}"))
        .y_label_formatter(&label)
        .draw()?;
    for (row, contestant) in contestants.iter().enumerate() {
        let middle = SegmentValue::CenterOf(row);
        let told = |text: String| {
            EmptyElement::at((most * 1.03, middle.clone())) + Text::new(text, (0, -7), ("sans-serif", 14))
        };
        let Some(figure) = figure(*contestant) else {
            chart.draw_series([told("not measured".to_owned())])?;
            continue;
        };
        let color = match contestant {
            Contestant::B => BASE,
            _ if contestant.is_ours() => OURS,
            _ => OTHERS,
        };
        let top =
            if row + 1 == contestants.len() { SegmentValue::Last } else { SegmentValue::Exact(row + 1) };
        let mut bar = Rectangle::new([(0.0, SegmentValue::Exact(row)), (figure.middle, top)], color.filled());
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        if let Some((low, high)) = figure.quartiles {
            let spread = [(low, middle.clone()), (high, middle.clone())];
            chart.draw_series([PathElement::new(spread, BLACK.stroke_width(2))])?;
        }
        chart.draw_series([told(column.show(figure))])?;
    }
    let one = [(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Last)];
    chart.draw_series([PathElement::new(one, BLACK.mix(0.6).stroke_width(1))])?;
    Ok(())
}
