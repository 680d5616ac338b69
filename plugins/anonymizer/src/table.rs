//! [`Table`]: PS3.15 Table E.1-1 as data: for each attribute the basic profile's action and what each option says of it.
//!
//! The CSV is embedded as it stands; a new DICOM edition replaces that one file. Columns are found by name.

use crate::options::{Choice, Options};
use crate::sheet::{self, Sheet};
use crate::tag_map::TagMap;
use dicom_core::Tag;

/// Table E.1-1 of the edition named in its last column.
const CSV: &str = include_str!("../data/ps315_table_e1-1.csv");

/// What the standard permits for one attribute: one letter, or several from which the attribute's Type chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What an option says of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Nothing: the profile's action stands.
    Silent,
    /// K: kept.
    Keep,
    /// C: cleaned.
    Clean,
}

impl Cell {
    /// Reads a cell of an option column.
    ///
    /// # Errors
    /// Anything but K, C and nothing.
    pub fn parse(cell: &str) -> Result<Self, String> {
        match cell {
            "" => Ok(Self::Silent),
            "K" => Ok(Self::Keep),
            "C" => Ok(Self::Clean),
            other => Err(format!("expected K, C or nothing, found `{other}`")),
        }
    }
}

/// One row: the basic action, and the cells of the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The basic profile's action.
    pub basic: Actions,
    cells: Cells,
}

/// What each option says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cells([Cell; Choice::ALL.len()]);

impl Cells {
    /// Reads the cells of the options that have a column.
    pub(crate) fn read(row: &sheet::Row<'_>, columns: &[(Choice, usize)]) -> Result<Self, String> {
        let mut cells = [Cell::Silent; Choice::ALL.len()];
        for (choice, column) in columns {
            if let Some(cell) = cells.get_mut(*choice as usize) {
                *cell = Cell::parse(row.field(*column)?).map_err(|e| row.wrong(e))?;
            }
        }
        Ok(Self(cells))
    }

    /// What an option says.
    pub(crate) fn of(&self, choice: Choice) -> Cell {
        self.0.get(choice as usize).copied().unwrap_or(Cell::Silent)
    }

    /// The chosen option that decides, and whether it keeps or cleans: K comes before C, but where dates are moved none stays.
    pub(crate) fn decider(&self, options: Options) -> Option<(Cell, Choice)> {
        let first = |cell| options.iter().find(|choice| self.of(*choice) == cell);
        match (first(Cell::Keep), first(Cell::Clean)) {
            (_, Some(Choice::ModifiedDates)) => Some((Cell::Clean, Choice::ModifiedDates)),
            (Some(choice), _) => Some((Cell::Keep, choice)),
            (None, clean) => clean.map(|choice| (Cell::Clean, choice)),
        }
    }
}

impl Row {
    /// What an option says.
    pub fn cell(&self, choice: Choice) -> Cell {
        self.cells.of(choice)
    }

    /// The chosen option that decides, and whether it keeps or cleans.
    pub(crate) fn decider(&self, options: Options) -> Option<(Cell, Choice)> {
        self.cells.decider(options)
    }
}

/// Table E.1-1.
#[derive(Debug)]
pub struct Table {
    rows: TagMap<Row>,
    edition: String,
}

impl Table {
    /// The embedded table.
    ///
    /// # Errors
    /// A malformed file, with the line.
    pub fn embedded() -> Result<Self, String> {
        Self::parse(CSV)
    }

    /// Reads a table. The rows for repeating groups (`50xx`, `60xx`) and `PRIVATE` are rules about groups, not
    /// attributes; they are acted on elsewhere and not stored here.
    ///
    /// # Errors
    /// A missing column, a row with too few fields, a malformed tag or action, with the line.
    pub fn parse(csv: &str) -> Result<Self, String> {
        let sheet = Sheet::read("Table E.1-1", csv)?;
        let (tag, action, edition) = (sheet.column("tag")?, sheet.column("basic_profile")?, sheet.column("edition")?);
        let mut columns = Vec::new();
        for choice in Choice::ALL {
            if let Some(name) = choice.column() {
                columns.push((choice, sheet.column(name)?));
            }
        }
        let mut table = Self { rows: TagMap::default(), edition: String::new() };
        for row in sheet.rows() {
            table.edition = row.field(edition)?.to_owned();
            let name = row.field(tag)?;
            if name == "PRIVATE" || name.starts_with("(50xx") || name.starts_with("(60xx") {
                continue;
            }
            let tag = name.parse::<Tag>().map_err(|_| row.wrong(format!("malformed tag `{name}`")))?;
            let basic = Actions::parse(row.field(action)?).map_err(|e| row.wrong(e))?;
            let cells = Cells::read(&row, &columns)?;
            if table.rows.insert(tag, Row { basic, cells }).is_some() {
                return Err(row.wrong(format!("{name} a second time")));
            }
        }
        if table.rows.is_empty() {
            return Err("Table E.1-1: no rows".into());
        }
        Ok(table)
    }

    /// The row of an attribute, or `None` where the table is silent.
    pub fn row(&self, tag: Tag) -> Option<&Row> {
        self.rows.get(&tag)
    }

    /// The DICOM edition, for example `2026d`.
    pub fn edition(&self) -> &str {
        &self.edition
    }

    /// Every listed attribute with its row.
    pub fn rows(&self) -> impl Iterator<Item = (Tag, &Row)> + '_ {
        self.rows.iter().map(|(tag, row)| (*tag, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_table_is_whole() {
        let table = Table::embedded().expect("table");
        assert_eq!(table.edition(), "2026d");
        assert_eq!(table.rows().count(), 653);
        assert_eq!(CSV.lines().count(), 658);
        let x = Actions { remove: true, empty: false, dummy: false, map_uid: false };
        let basic = |tag| table.row(tag).map(|row| row.basic);
        assert_eq!(basic(Tag(0x0010, 0x1000)), Some(x));
        assert_eq!(basic(Tag(0x0008, 0x2112)), Some(Actions { empty: true, map_uid: true, ..x }));
        assert_eq!(basic(Tag(0x0018, 0x0060)), None);
        let age = table.row(Tag(0x0010, 0x1010)).expect("age");
        assert_eq!(age.cell(Choice::PatientCharacteristics), Cell::Keep);
        assert_eq!(age.cell(Choice::FullDates), Cell::Silent);
        let date = table.row(Tag(0x0008, 0x0020)).expect("date");
        assert_eq!((date.cell(Choice::FullDates), date.cell(Choice::ModifiedDates)), (Cell::Keep, Cell::Clean));
        assert_eq!(date.cell(Choice::PixelData), Cell::Silent);
    }

    #[test]
    fn malformed_tables_are_refused_with_the_line() {
        let options: Vec<&str> = Choice::ALL.iter().filter_map(|c| c.column()).collect();
        let head = format!("tag,basic_profile,{},edition\n", options.join(","));
        let row = |tag: &str, basic: &str, cell: &str| format!("{tag},{basic},{cell}{},2026d\n", ",".repeat(9));
        let good = row("\"(0010,0010)\"", "X", "");
        for (text, expected) in [
            ("", "no column `tag`"),
            (&head, "no rows"),
            ("tag,name,edition\n", "no column `basic_profile`"),
            ("tag,basic_profile,edition\n", "no column `clean_graphics`"),
            (&format!("{head}{}", row("\"(0010,0010)\"", "Q", "")), "line 2: expected X, Z, D or U, found `Q`"),
            (&format!("{head}{}", row("\"(0010,0010)\"", "X", "Q")), "line 2: expected K, C or nothing, found `Q`"),
            (&format!("{head}{good}{}", row("nonsense", "X", "")), "line 3: malformed tag"),
            (&format!("{head}\"(0010,0010)\",X"), "line 2: too few fields"),
            (&format!("{head}{good}{good}"), "a second time"),
        ] {
            let error = Table::parse(text).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
