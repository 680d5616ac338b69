//! [`ContentTable`]: PS3.15 Table E.3.4-1 as data: what happens to a content item of a structured report, by the code of
//! its concept and the type of its value, under the option Clean Structured Content.

use crate::options::{Choice, Options};
use crate::profile::Rule;
use crate::sheet::Sheet;
use crate::table::{Actions, Cell, Cells};
use std::collections::HashMap;

const CSV: &str = include_str!("../data/ps315_table_e3.4-1_content_items.csv");

/// What happens to a content item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It goes, with everything below it.
    Drop,
    /// Its value stays.
    Keep,
    /// Its date moves with the patient's dates.
    Shift,
    /// Harmless words of its text stay.
    CleanText,
    /// Its value becomes a dummy; references and UIDs are mapped.
    Dummy,
    /// The table does not list it: by the type of its value.
    ByType,
}

/// A row: the basic action (X, D), and the cells of the options.
#[derive(Debug, Clone, Copy)]
struct Row {
    basic: Actions,
    cells: Cells,
}

/// Table E.3.4-1.
#[derive(Debug)]
pub struct ContentTable {
    /// By code, scheme and value type.
    rows: HashMap<String, Row>,
}

fn key(code: &str, scheme: &str, value_type: &str) -> String {
    format!("{code}\\{scheme}\\{value_type}")
}

impl ContentTable {
    /// The embedded table.
    ///
    /// # Errors
    /// A malformed file, with the line.
    pub fn embedded() -> Result<Self, String> {
        Self::parse(CSV)
    }

    fn parse(csv: &str) -> Result<Self, String> {
        let sheet = Sheet::read("Table E.3.4-1", csv)?;
        let (code, scheme) = (sheet.column("code")?, sheet.column("scheme")?);
        let (value_type, basic) = (sheet.column("value_type")?, sheet.column("basic")?);
        // Only options that concern content items have a column here.
        let columns: Vec<(Choice, usize)> =
            Choice::ALL.into_iter().filter_map(|choice| Some((choice, sheet.find(choice.column()?)?))).collect();
        let mut table = Self { rows: HashMap::new() };
        for row in sheet.rows() {
            let actions = Actions::parse(row.field(basic)?).map_err(|e| row.wrong(e))?;
            let cells = Cells::read(&row, &columns)?;
            let key = key(row.field(code)?, row.field(scheme)?, row.field(value_type)?);
            if table.rows.insert(key, Row { basic: actions, cells }).is_some() {
                return Err(row.wrong("a concept a second time"));
            }
        }
        Ok(table)
    }

    /// How many items are listed.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// What happens to an item, by which rule and by which option.
    pub fn plan(
        &self,
        (code, scheme): (&str, &str),
        value_type: &str,
        options: Options,
    ) -> (Plan, Rule, Option<Choice>) {
        let Some(row) = self.rows.get(&key(code, scheme, value_type)) else {
            return (Plan::ByType, Rule::UnlistedContent, None);
        };
        let rule = Rule::Content(row.basic);
        match row.cells.decider(options) {
            Some((Cell::Clean, choice @ Choice::ModifiedDates)) => (Plan::Shift, rule, Some(choice)),
            Some((Cell::Keep, choice)) => (Plan::Keep, rule, Some(choice)),
            Some((_, choice)) => (Plan::CleanText, rule, Some(choice)),
            // A template may demand the item: a dummy suits where the table permits one.
            None if row.basic.dummy => (Plan::Dummy, rule, None),
            None => (Plan::Drop, rule, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_planned_by_concept_type_and_options() {
        let table = ContentTable::embedded().expect("table");
        assert_eq!(table.count(), 214);
        let plan = |code: &str, value_type: &str, choices: &[Choice]| {
            let options = choices.iter().fold(Options::default(), |o, c| o.with(*c));
            table.plan((code, "DCM"), value_type, options).0
        };
        assert_eq!(plan("121022", "TEXT", &[Choice::Descriptors]), Plan::Drop, "Accession Number");
        assert_eq!(plan("121008", "PNAME", &[]), Plan::Dummy, "Person Observer Name");
        assert_eq!(plan("121071", "TEXT", &[]), Plan::Dummy, "Finding");
        assert_eq!(plan("121071", "TEXT", &[Choice::Descriptors]), Plan::CleanText, "Finding");
        assert_eq!(plan("121071", "CODE", &[]), Plan::ByType, "Finding");
        assert_eq!(plan("111060", "DATE", &[Choice::FullDates]), Plan::Keep, "Study Date");
        assert_eq!(plan("111060", "DATE", &[Choice::ModifiedDates]), Plan::Shift, "Study Date");
        assert_eq!(plan("121031", "DATE", &[Choice::FullDates]), Plan::Drop, "Subject Birth Date");
        assert_eq!(plan("121012", "UIDREF", &[Choice::Device]), Plan::Keep, "Device Observer UID");
    }

    #[test]
    fn malformed_tables_are_refused_with_the_line() {
        let head = "code,scheme,value_type,basic,clean_descriptors\n";
        for (text, expected) in [
            ("code,scheme\n", "no column `value_type`"),
            (&format!("{head}1,DCM,TEXT,Q,"), "line 2: expected X, Z, D or U"),
            (&format!("{head}1,DCM,TEXT,X,Q"), "line 2: expected K, C or nothing"),
            (&format!("{head}1,DCM,TEXT"), "line 2: too few fields"),
            (&format!("{head}1,DCM,TEXT,X,\n1,DCM,TEXT,X,"), "line 3: a concept a second time"),
        ] {
            let error = ContentTable::parse(text).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
