//! [`Table`]: PS3.15 Table E.1-1 as data, one action for each attribute under the chosen profile column.
//!
//! The CSV is embedded as it stands; a new DICOM edition replaces that one file. Columns are found by name, so that the
//! option columns (already in the file) can be laid over the profile's without touching the code that acts.

use dicom_core::Tag;
use std::collections::HashMap;

/// Table E.1-1 of the edition named in its last column.
const CSV: &str = include_str!("../data/ps315_table_e1-1.csv");

/// What the standard permits for one attribute: one letter, or several from which the attribute's Type chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actions {
    /// X: the attribute is taken out.
    pub remove: bool,
    /// Z: zero length, or a dummy.
    pub empty: bool,
    /// D: a dummy of non-zero length that is valid for the VR.
    pub dummy: bool,
    /// U: UIDs are mapped; for a sequence (`U*`) those in its items.
    pub map_uid: bool,
}

impl Actions {
    /// Reads a cell of the table such as `X/Z/D`.
    ///
    /// # Errors
    /// A letter that is none of X, Z, D, U, U*.
    pub fn parse(cell: &str) -> Result<Self, String> {
        let mut actions = Self { remove: false, empty: false, dummy: false, map_uid: false };
        for letter in cell.split('/') {
            match letter {
                "X" => actions.remove = true,
                "Z" => actions.empty = true,
                "D" => actions.dummy = true,
                "U" | "U*" => actions.map_uid = true,
                other => return Err(format!("expected X, Z, D or U, found `{other}` in `{cell}`")),
            }
        }
        Ok(actions)
    }

    /// Whether the cell holds exactly one letter.
    pub fn is_single(self) -> bool {
        [self.remove, self.empty, self.dummy, self.map_uid].iter().filter(|&&set| set).count() == 1
    }
}

/// Table E.1-1 under one profile.
#[derive(Debug)]
pub struct Table {
    actions: HashMap<Tag, Actions>,
    edition: String,
}

impl Table {
    /// The embedded table with the actions of column `profile` (for example `basic_profile`).
    ///
    /// # Errors
    /// A malformed file, with the line.
    pub fn embedded(profile: &str) -> Result<Self, String> {
        Self::parse(CSV, profile)
    }

    /// Reads a table. The rows for repeating groups (`50xx`, `60xx`) and `PRIVATE` are rules about groups, not
    /// attributes; those groups are always taken out whole and are not stored here.
    ///
    /// # Errors
    /// A missing column, a row with too few fields, a malformed tag or action, with the line.
    pub fn parse(csv: &str, profile: &str) -> Result<Self, String> {
        let mut lines = csv.lines();
        let header = fields(lines.next().unwrap_or_default());
        let column = |name: &str| {
            header.iter().position(|h| h == name).ok_or_else(|| format!("Table E.1-1: no column `{name}`"))
        };
        let (tag, action, edition) = (column("tag")?, column(profile)?, column("edition")?);
        let mut table = Self { actions: HashMap::new(), edition: String::new() };
        for (index, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
            let wrong = |what: String| format!("Table E.1-1, line {}: {what}", index + 2);
            let row = fields(line);
            let field = |i: usize| row.get(i).map(String::as_str).ok_or_else(|| wrong("too few fields".into()));
            table.edition = field(edition)?.to_owned();
            let name = field(tag)?;
            if name == "PRIVATE" || name.starts_with("(50xx") || name.starts_with("(60xx") {
                continue;
            }
            let tag = name.parse::<Tag>().map_err(|_| wrong(format!("malformed tag `{name}`")))?;
            let actions = Actions::parse(field(action)?).map_err(wrong)?;
            if table.actions.insert(tag, actions).is_some() {
                return Err(wrong(format!("{name} a second time")));
            }
        }
        if table.actions.is_empty() {
            return Err("Table E.1-1: no rows".into());
        }
        Ok(table)
    }

    /// The permitted actions, or `None` where the table is silent.
    pub fn actions(&self, tag: Tag) -> Option<Actions> {
        self.actions.get(&tag).copied()
    }

    /// The DICOM edition, for example `2026d`.
    pub fn edition(&self) -> &str {
        &self.edition
    }

    /// Every listed attribute.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + '_ {
        self.actions.keys().copied()
    }
}

/// Splits a CSV line; a field in double quotes may hold commas (no escaped quotes occur in the facts).
pub(crate) fn fields(line: &str) -> Vec<String> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.trim_end_matches('\r').chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    all.push(field);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_table_is_whole() {
        let table = Table::embedded("basic_profile").expect("table");
        assert_eq!(table.edition(), "2026d");
        assert_eq!(table.tags().count(), 653);
        assert_eq!(CSV.lines().count(), 658);
        let x = Actions { remove: true, empty: false, dummy: false, map_uid: false };
        assert_eq!(table.actions(Tag(0x0010, 0x1000)), Some(x));
        assert_eq!(table.actions(Tag(0x0008, 0x2112)), Some(Actions { empty: true, map_uid: true, ..x }));
        assert_eq!(table.actions(Tag(0x0018, 0x0060)), None);
    }

    #[test]
    fn malformed_tables_are_refused_with_the_line() {
        let head = "tag,name,basic_profile,edition\n";
        for (text, expected) in [
            ("", "no column `tag`"),
            (head, "no rows"),
            ("tag,name,edition\n", "no column `basic_profile`"),
            (&format!("{head}\"(0010,0010)\",A,Q,2026d"), "line 2: expected X, Z, D or U, found `Q`"),
            (&format!("{head}\"(0010,0010)\",A,X,2026d\nnonsense,A,X,2026d"), "line 3: malformed tag"),
            (&format!("{head}\"(0010,0010)\",A"), "line 2: too few fields"),
            (&format!("{head}\"(0010,0010)\",A,X,1\n\"(0010,0010)\",A,X,1"), "a second time"),
        ] {
            let error = Table::parse(text, "basic_profile").expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
