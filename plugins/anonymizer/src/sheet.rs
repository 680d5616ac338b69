//! [`Sheet`]: an embedded CSV file, its columns found by name and its faults told with their lines.

use csv::StringRecord;

/// A CSV file with a header.
pub(crate) struct Sheet {
    /// What the file is called in messages.
    name: &'static str,
    header: StringRecord,
    rows: Vec<StringRecord>,
}

/// A row of a [`Sheet`].
pub(crate) struct Row<'a> {
    name: &'static str,
    record: &'a StringRecord,
}

impl Sheet {
    /// Reads a file.
    ///
    /// # Errors
    /// What the CSV reader says of it.
    pub(crate) fn read(name: &'static str, csv: &str) -> Result<Self, String> {
        // Rows of other lengths are told by who asks for a field that is missing.
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(csv.as_bytes());
        let wrong = |e: csv::Error| format!("{name}: {e}");
        let header = reader.headers().map_err(wrong)?.clone();
        let rows = reader.records().collect::<Result<_, _>>().map_err(wrong)?;
        Ok(Self { name, header, rows })
    }

    /// Where a column stands; `None` where there is none of this name.
    pub(crate) fn find(&self, column: &str) -> Option<usize> {
        self.header.iter().position(|name| name == column)
    }

    /// Where a column stands that must be there.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) fn column(&self, column: &str) -> Result<usize, String> {
        self.find(column).ok_or_else(|| format!("{}: no column `{column}`", self.name))
    }

    /// The rows below the header.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|record| Row { name: self.name, record })
    }
}

impl<'a> Row<'a> {
    /// The field of a column.
    ///
    /// # Errors
    /// The row is too short.
    pub(crate) fn field(&self, column: usize) -> Result<&'a str, String> {
        self.record.get(column).ok_or_else(|| self.wrong("too few fields"))
    }

    /// The fields, where there are so many.
    pub(crate) fn fields<const N: usize>(&self) -> Option<[&'a str; N]> {
        self.record.iter().collect::<Vec<_>>().try_into().ok()
    }

    /// A message about this row.
    pub(crate) fn wrong(&self, what: impl std::fmt::Display) -> String {
        let line = self.record.position().map_or(0, csv::Position::line);
        format!("{}, line {line}: {what}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_names_and_rows_have_lines() {
        let sheet = Sheet::read("Sheet", "a,b\r\n\"1,\"\"2\"\"\",x\n3\n").expect("sheet");
        assert_eq!((sheet.column("b"), sheet.find("c")), (Ok(1), None));
        assert_eq!(sheet.column("c"), Err("Sheet: no column `c`".to_owned()));
        let rows: Vec<Row<'_>> = sheet.rows().collect();
        assert_eq!(rows[0].fields(), Some(["1,\"2\"", "x"]));
        assert_eq!((rows[1].field(0), rows[1].fields::<2>()), (Ok("3"), None));
        assert_eq!(rows[1].field(1), Err("Sheet, line 3: too few fields".to_owned()));
        assert_eq!(Sheet::read("Sheet", "").map(|sheet| sheet.rows().count()), Ok(0));
    }
}
