//! Contestants that take turns: medians, ratios, shares of the peak and differences, as one table.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};

use crate::peak::Units;

/// One way to compute a case.
pub trait Contestant {
    /// Its name in the table.
    fn name(&self) -> &str;
    /// What its speed is a share of, where that can be said.
    fn units(&self) -> Option<Units>;
    /// Computes the case once: seconds.
    fn run(&mut self) -> Result<f64, String>;
    /// What it computes.
    fn output(&mut self) -> Result<Vec<f32>, String>;
}

/// A case: who computes it, and what it is.
pub struct Contest<'a> {
    /// What is computed, for the table's head.
    pub title: String,
    /// Two for each multiplication of a convolution.
    pub operations: f64,
    /// Others are divided by those whose `is_rival`.
    pub contestants: Vec<Box<dyn Contestant + 'a>>,
    /// Names of PyTorch's contestants.
    pub rivals: Vec<String>,
    /// What a difference of 1 is in each unit that is of interest.
    pub scales: &'static [(&'static str, f64)],
}

/// Peaks of this machine, measured once each.
pub struct Peaks {
    threads: usize,
    known: BTreeMap<Units, Option<f64>>,
}

impl Peaks {
    /// Of `threads` threads together.
    pub fn new(threads: usize) -> Self {
        Self { threads, known: BTreeMap::new() }
    }

    /// Operations per second, or `None` where the machine lacks the units.
    pub fn of(&mut self, units: Units) -> Option<f64> {
        *self.known.entry(units).or_insert_with(|| units.peak(self.threads))
    }
}

/// Medians in the order of the contestants.
pub fn take_turns(contest: &mut Contest<'_>, rounds: usize) -> Result<Vec<Times>, String> {
    for contestant in &mut contest.contestants {
        contestant.run()?;
    }
    let mut times = vec![Vec::new(); contest.contestants.len()];
    for _ in 0..rounds {
        for (contestant, times) in contest.contestants.iter_mut().zip(&mut times) {
            times.push(contestant.run()?);
        }
    }
    Ok(times.into_iter().map(Times::of).collect())
}

/// Seconds of one contestant.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The median of the rounds.
    pub median: f64,
    /// The fastest.
    pub least: f64,
}

impl Times {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        let median = if all.len() % 2 == 1 { all[middle] } else { (all[middle - 1] + all[middle]) / 2.0 };
        Self { median, least: all[0] }
    }
}

/// How far an output is from the reference.
struct Difference {
    mean: f64,
    most: f64,
    max: f64,
}

impl Difference {
    fn between(found: &[f32], reference: &[f32]) -> Result<Self, String> {
        if found.len() != reference.len() || found.is_empty() {
            return Err(format!("an output of {} numbers, {} expected", found.len(), reference.len()));
        }
        let distance = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
        let mut all: Vec<f64> = found.iter().zip(reference).map(distance).collect();
        if all.iter().any(|d| !d.is_finite()) {
            return Err("an output is not finite".to_owned());
        }
        all.sort_by(f64::total_cmp);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let most = all[(all.len() * 999).div_ceil(1000) - 1];
        Ok(Self { mean, most, max: all[all.len() - 1] })
    }

    fn text(&self, scale: f64) -> String {
        let [mean, most, max] = [self.mean, self.most, self.max].map(|d| d * scale);
        if scale == 1.0 { format!("{mean:.1e} {most:.1e} {max:.1e}") } else { format!("{mean:.3} {most:.3} {max:.3}") }
    }
}

/// Runs a contest and writes its table. Outputs are compared with the first rival's, or else the first contestant's.
pub fn table(contest: &mut Contest<'_>, rounds: usize, peaks: &mut Peaks) -> Result<(), String> {
    let times = take_turns(contest, rounds)?;
    let place = |name: &String| contest.contestants.iter().position(|c| c.name() == name);
    let rivals: Vec<(String, f64)> =
        contest.rivals.iter().filter_map(|name| Some((name.clone(), times[place(name)?].median))).collect();
    let reference_at = contest.rivals.first().and_then(place).unwrap_or(0);
    let reference = contest.contestants[reference_at].output()?;

    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut head = vec!["".to_owned(), "median ms".to_owned(), "least ms".to_owned()];
    head.extend(rivals.iter().map(|(name, _)| format!("x {name}")));
    head.extend(["GFLOP/s".to_owned(), "of peak".to_owned()]);
    head.push("mean, 99.9 %, max error".to_owned());
    head.extend(contest.scales.iter().map(|(unit, _)| format!("the same, {unit}")));
    table.set_header(head);
    for (at, (contestant, times)) in contest.contestants.iter_mut().zip(&times).enumerate() {
        let mut row = vec![contestant.name().to_owned()];
        row.extend([times.median, times.least].map(|s| format!("{:.1}", s * 1e3)));
        row.extend(rivals.iter().map(|(_, seconds)| format!("{:.2}", seconds / times.median)));
        let speed = contest.operations / times.median;
        row.push(format!("{:.0}", speed / 1e9));
        let peak = contestant.units().and_then(|units| Some((units, peaks.of(units)?)));
        row.push(
            peak.map_or_else(String::new, |(units, peak)| format!("{:.0} % {}", 100.0 * speed / peak, units.name())),
        );
        if at == reference_at {
            row.push("reference".to_owned());
        } else {
            let difference = Difference::between(&contestant.output()?, &reference)
                .map_err(|why| format!("{}: {why}", contestant.name()))?;
            row.push(difference.text(1.0));
            row.extend(contest.scales.iter().map(|(_, scale)| difference.text(*scale)));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{}, {:.1} GFLOP, {rounds} alternating rounds\n\n{table}", contest.title, contest.operations / 1e9);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let of = |all: &[f64]| Times::of(all.to_vec());
        assert_eq!((of(&[3.0, 1.0, 2.0]).median, of(&[4.0, 1.0, 2.0, 3.0]).median), (2.0, 2.5));
        assert_eq!(of(&[3.0, 1.0, 2.0]).least, 1.0);
    }

    #[test]
    fn differences() -> Result<(), String> {
        let reference = vec![0.0; 2000];
        let mut found = vec![0.5; 2000];
        found[7] = -3.0;
        found[8] = 2.0;
        found[9] = 1.0;
        let difference = Difference::between(&found, &reference)?;
        // 99.9 % of 2000 are all but the two largest.
        assert_eq!((difference.most, difference.max), (1.0, 3.0));
        assert!((difference.mean - (1997.0 * 0.5 + 6.0) / 2000.0).abs() < 1e-12);
        assert_eq!(difference.text(200.0), "100.450 200.000 600.000");
        assert!(Difference::between(&found[1..], &reference).is_err());
        found[0] = f32::NAN;
        assert!(Difference::between(&found, &reference).is_err());
        Ok(())
    }
}
