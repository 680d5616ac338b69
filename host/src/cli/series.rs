//! `gantry series DIR`: what series lie in a folder, and what is wrong with them.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::series::{Fault, Repair, ScanOptions, ScanReport, SeriesKind, SeriesRecord, scan};

/// Lists the series in folders: modality, description, slices, spacing, gaps, tilt, transfer syntax.
#[derive(Debug, Clone, Args)]
pub struct SeriesArgs {
    /// Folders (or files) to look into.
    #[arg(required = true, value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// One JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Hide descriptions and paths; show input numbers only.
    #[arg(long)]
    pub redact: bool,
    /// List also the series that Gantry derived.
    #[arg(long)]
    pub include_derived: bool,
    /// Mend before listing: `uids` makes missing UIDs from the content.
    #[arg(long, value_name = "WHAT", value_parser = repair)]
    pub repair: Vec<Repair>,
}

fn repair(text: &str) -> Result<Repair, String> {
    match text {
        "uids" => Ok(Repair::Uids),
        _ => Err("expected `uids`".to_owned()),
    }
}

/// One line of the listing.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    index: usize,
    kind: SeriesKind,
    modality: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    series_number: Option<i32>,
    part: usize,
    localizer: bool,
    derived_by_gantry: bool,
    slices: usize,
    rows: usize,
    columns: usize,
    /// `[z, y, x]`
    spacing_mm: Option<[f64; 3]>,
    tilt_degrees: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_syntax: Option<&'a str>,
    transfer_syntax_name: &'static str,
    first_input: Option<usize>,
    faults: &'a [Fault],
    warnings: &'a [Fault],
}

/// The JSON document.
#[derive(Debug, Serialize)]
struct Listing<'a> {
    inputs: usize,
    series: Vec<Listed<'a>>,
    skipped: Vec<Passed<'a>>,
}

#[derive(Debug, Serialize)]
struct Passed<'a> {
    input: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    code: &'a str,
    text: &'a str,
}

/// Runs the verb. Exit code 0: listed, whatever was found; 2: a folder cannot be read.
pub fn run(args: &SeriesArgs) -> ExitCode {
    let options =
        ScanOptions { include_derived: args.include_derived, repair: args.repair.clone(), ..ScanOptions::default() };
    let bar = if std::io::stderr().is_terminal() {
        indicatif::ProgressBar::new_spinner().with_message("files")
    } else {
        indicatif::ProgressBar::hidden()
    };
    let report = scan(&args.folders, &options, &|_| bar.inc(1));
    bar.finish_and_clear();
    let report = match report {
        Ok(report) => report,
        Err(fault) => {
            eprintln!("error: {fault}");
            return ExitCode::from(2);
        }
    };
    let text = if args.json { json(&report, args.redact) } else { table(&report, args.redact) };
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: the listing cannot be written: {}", e.kind());
            ExitCode::from(3)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn listed(index: usize, series: &SeriesRecord, redact: bool) -> Listed<'_> {
    let geometry = series.geometry.as_ref();
    Listed {
        index,
        kind: series.kind,
        modality: if redact { known_modality(&series.modality) } else { &series.modality },
        description: (!redact).then_some(&series.description),
        folder: (!redact).then(|| series.folder.display().to_string()),
        series_number: series.series_number,
        part: series.part,
        localizer: series.localizer,
        derived_by_gantry: series.derived_by_gantry,
        slices: series.slices(),
        rows: series.rows,
        columns: series.columns,
        spacing_mm: geometry.filter(|g| !g.z_unknown).map(|g| g.spacing_mm()),
        tilt_degrees: geometry.filter(|g| !g.z_unknown).map(|g| g.tilt_degrees()),
        transfer_syntax: (!redact).then_some(&series.transfer_syntax),
        transfer_syntax_name: syntax_name(&series.transfer_syntax),
        first_input: series.instances.iter().map(|i| i.input).min(),
        faults: &series.faults,
        warnings: &series.warnings,
    }
}

fn json(report: &ScanReport, redact: bool) -> String {
    let listing = Listing {
        inputs: report.inputs,
        series: report.series.iter().enumerate().map(|(i, s)| listed(i, s, redact)).collect(),
        skipped: report
            .skipped
            .iter()
            .map(|s| Passed {
                input: s.input,
                path: (!redact).then(|| s.path.display().to_string()),
                code: &s.code,
                text: &s.text,
            })
            .collect(),
    };
    serde_json::to_string_pretty(&listing).unwrap_or_else(|e| format!("{{\"error\": \"{e}\"}}"))
}

fn table(report: &ScanReport, redact: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let coloured = super::reply::colour_on(&std::io::stdout());
    if !coloured {
        table.force_no_tty();
    }
    let mut head = vec!["#", "Mod.", "No."];
    if !redact {
        head.extend(["Description", "Folder"]);
    }
    head.extend(["Slices", "Size", "Spacing z y x, mm", "Tilt", "Transfer syntax", "State"]);
    table.set_header(head);
    for (index, series) in report.series.iter().enumerate() {
        let line = listed(index, series, redact);
        let mut row = vec![
            Cell::new(index),
            Cell::new(match line.kind {
                SeriesKind::Dicom => shown(line.modality),
                SeriesKind::Nifti => "NIfTI".to_owned(),
                SeriesKind::Instances => "instances".to_owned(),
            }),
            Cell::new(line.series_number.map(|n| n.to_string()).unwrap_or_default()),
        ];
        if !redact {
            row.push(Cell::new(shown(line.description.unwrap_or_default())));
            row.push(Cell::new(shown(&series.folder_parts.join("/"))));
        }
        let spacing = line.spacing_mm.map_or("unknown".to_owned(), |[z, y, x]| format!("{z:.3} {y:.3} {x:.3}"));
        let tilt = line.tilt_degrees.map_or(String::new(), |t| format!("{t:.1}°"));
        row.extend([
            Cell::new(line.slices),
            Cell::new(format!("{} x {}", line.rows, line.columns)),
            Cell::new(spacing),
            Cell::new(tilt),
            Cell::new(line.transfer_syntax_name),
            state(series, coloured),
        ]);
        table.add_row(row);
    }
    let mut text = if report.series.is_empty() { "No series.".to_owned() } else { table.to_string() };
    let mut kinds: indexmap::IndexMap<(&str, &str), (usize, usize)> = indexmap::IndexMap::new();
    for s in &report.skipped {
        kinds.entry((&s.code, &s.text)).or_insert((0, s.input)).0 += 1;
    }
    if !kinds.is_empty() {
        text.push_str(&format!("\n\nPassed over, of {} files:", report.inputs));
    }
    for ((code, why), (count, first)) in kinds {
        text.push_str(&format!("\n  {count} x {why} ({code}); first #{first}"));
    }
    text
}

/// What a series is fit for, in one cell.
fn state(series: &SeriesRecord, coloured: bool) -> Cell {
    let mut said: Vec<String> = Vec::new();
    if series.localizer {
        said.push("localizer".to_owned());
    }
    if series.derived_by_gantry {
        said.push("derived by Gantry".to_owned());
    }
    said.extend(series.faults.iter().map(|f| format!("{}: {}", f.code, f.text)));
    said.extend(series.warnings.iter().map(|f| format!("note: {}", f.text)));
    let (text, colour) = match (series.faults.is_empty(), said.is_empty()) {
        (true, true) => ("ok".to_owned(), Color::Green),
        (true, false) => (said.join("\n"), Color::Green),
        (false, _) => (said.join("\n"), Color::Red),
    };
    let cell = Cell::new(text);
    if coloured { cell.fg(colour) } else { cell }
}

/// Dataset text without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

/// A modality out of the usual ones; any header field can hold any text.
fn known_modality(modality: &str) -> &str {
    if matches!(modality, "CT" | "MR" | "PT" | "NM" | "US" | "XA" | "") { modality } else { "other" }
}

fn syntax_name(uid: &str) -> &'static str {
    match uid.strip_prefix("1.2.840.10008.1.2") {
        Some("") => "implicit LE",
        Some(".1") => "explicit LE",
        Some(".1.99") => "deflated",
        Some(".2") => "explicit BE",
        Some(".4.50") => "JPEG baseline",
        Some(".4.51") => "JPEG extended",
        Some(".4.57" | ".4.70") => "JPEG lossless",
        Some(".4.80") => "JPEG-LS lossless",
        Some(".4.81") => "JPEG-LS near-lossless",
        Some(".4.90") => "JPEG 2000 lossless",
        Some(".4.91") => "JPEG 2000",
        Some(".4.201" | ".4.202") => "HTJ2K lossless",
        Some(".4.203") => "HTJ2K",
        Some(".5") => "RLE",
        Some(".8.1") => "deflated frames",
        _ if uid.is_empty() => "",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{InstanceRecord, Skipped};

    const SECRET: &str = "DOE^JANE";

    fn report() -> ScanReport {
        let instance = InstanceRecord {
            path: format!("/in/{SECRET}/1").into(),
            input: 3,
            digest: String::new(),
            stamp: None,
            sop_instance: "2.25.1".to_owned(),
            number: Some(1),
            position_mm: None,
            frame: None,
        };
        let series = SeriesRecord {
            kind: SeriesKind::Dicom,
            modality: SECRET.to_owned(),
            description: format!("{SECRET}\u{1b}[2J"),
            series_number: Some(2),
            folder: format!("/in/{SECRET}").into(),
            folder_parts: vec![SECRET.to_owned()],
            study: "2.25.2".to_owned(),
            series: "2.25.3".to_owned(),
            part: 0,
            patient: SECRET.to_owned(),
            patient_names: vec![SECRET.to_owned()],
            sop_class: String::new(),
            transfer_syntax: SECRET.to_owned(),
            rows: 4,
            columns: 5,
            instances: vec![instance],
            geometry: None,
            derived_by_gantry: false,
            localizer: false,
            deidentified: false,
            burned_in_annotation: false,
            faults: vec![Fault::new("not-a-volume", "all slices lie at the same position")],
            warnings: Vec::new(),
        };
        let skipped =
            Skipped { input: 0, path: format!("/in/{SECRET}/x").into(), code: "empty".into(), text: "empty".into() };
        ScanReport { roots: vec!["/in".into()], inputs: 4, series: vec![series], skipped: vec![skipped] }
    }

    #[test]
    fn redacted_listings_hold_no_dataset_text() {
        let report = report();
        for text in [json(&report, true), table(&report, true)] {
            assert!(!text.contains("DOE") && !text.contains("/in"), "{text}");
            assert!(text.contains("not-a-volume"), "{text}");
        }
        assert!(json(&report, false).contains(SECRET));
        let plain = table(&report, false);
        assert!(plain.contains("DOE") && !plain.contains('\u{1b}'), "{plain}");
    }

    #[test]
    fn arguments_are_parsed() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            series: SeriesArgs,
        }
        use clap::Parser;
        let line = Line::try_parse_from(["gantry", "a", "b", "--json", "--redact", "--repair", "uids"]).unwrap();
        assert_eq!(line.series.folders.len(), 2);
        assert!(line.series.json && line.series.redact && !line.series.include_derived);
        assert_eq!(line.series.repair, [Repair::Uids]);
        assert!(Line::try_parse_from(["gantry", "a", "--repair", "all"]).is_err());
        assert!(Line::try_parse_from(["gantry"]).is_err());
    }
}
