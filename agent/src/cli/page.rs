//! Layout for people: fields, lines and borderless tables, as text.

use std::fmt::Display;
use std::iter::repeat_n;

use unicode_width::UnicodeWidthStr as _;

use super::output::escape_controls;

/// A page under construction.
#[derive(Debug)]
pub(super) struct Page {
    wide: bool,
    headers: bool,
    text: String,
    /// Names and values in a row, which are aligned once all are known.
    fields: Vec<(String, String)>,
}

/// The least width of the names of fields, so that pages of one program look alike.
const NAMES: usize = 13;

/// Between two columns.
const GAP: usize = 2;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Always shown.
    Always(&'static str),
    /// Shown with `-o wide`.
    Wide(&'static str),
}

pub(super) use Column::{Always, Wide};

impl Page {
    pub(super) fn new(wide: bool, headers: bool) -> Self {
        Self { wide, headers, text: String::new(), fields: Vec::new() }
    }

    pub(super) fn into_text(mut self) -> String {
        self.settle();
        self.text
    }

    /// Whether there is room for more.
    #[must_use]
    pub(super) const fn is_wide(&self) -> bool {
        self.wide
    }

    /// A line.
    pub(super) fn line(&mut self, text: impl Display) {
        self.settle();
        self.push(&text.to_string());
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(&escape_controls(text));
        self.text.push('\n');
    }

    /// An empty line between parts.
    pub(super) fn gap(&mut self) {
        self.settle();
        self.text.push('\n');
    }

    /// Remarks on a table, kept back from scripts that read tables without their heads.
    pub(super) fn notes(&mut self, notes: &[String]) {
        if self.headers && !notes.is_empty() {
            self.gap();
            notes.iter().for_each(|note| self.push(note));
        }
    }

    /// A name and a value. Values of fields that follow each other begin in one column.
    pub(super) fn field(&mut self, name: &str, value: impl Display) {
        self.fields.push((format!("{name}:"), value.to_string()));
    }

    fn settle(&mut self) {
        let fields = std::mem::take(&mut self.fields);
        let width = fields.iter().map(|(name, _)| name.chars().count()).fold(NAMES, usize::max);
        for (name, value) in fields {
            self.push(&format!("{name:<width$} {value}"));
        }
    }

    /// A table. Each row has a cell per column, those of wide ones included.
    pub(super) fn table<const N: usize>(
        &mut self,
        columns: [Column; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) {
        self.settle();
        let shown = columns.map(|column| self.wide || matches!(column, Always(_)));
        let names = columns.map(|(Always(name) | Wide(name))| name.to_owned());
        // A line break would end the row for whoever reads by lines.
        let safe = |cell: String| escape_controls(&cell).replace('\n', "\\x0a");
        let rows = rows.into_iter().map(|row: [String; N]| row.map(safe));
        let rows: Vec<[String; N]> = self.headers.then_some(names).into_iter().chain(rows).collect();
        let mut widths = [0; N];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        for row in &rows {
            let begin = self.text.len();
            for ((cell, width), _) in row.iter().zip(widths).zip(shown).filter(|(_, shown)| *shown) {
                self.text.push_str(cell);
                self.text.extend(repeat_n(' ', width - cell.width() + GAP));
            }
            let end = self.text.get(begin..).unwrap_or_default().trim_end().len();
            self.text.truncate(begin + end);
            self.text.push('\n');
        }
    }
}

/// `-` for an empty text: a cell that a script can count.
#[must_use]
pub(super) fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A value or `-`.
#[must_use]
pub(super) fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Bytes for people, to three significant digits.
#[must_use]
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// A duration in whole seconds, such as `2h 5m 3s`.
#[must_use]
pub(super) fn duration(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(ms / 1_000)).to_string()
}

/// A time of day with its offset, as this machine shows it.
#[must_use]
pub(super) fn moment(at: jiff::Timestamp) -> String {
    // Pages of tests are compared with files.
    let zone = if cfg!(test) { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S%.3f%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_together_whatever_is_in_them() {
        let rows = || [["1".to_owned(), "a\nb\x1b[31m".to_owned(), "w".to_owned()]];
        let columns = [Always("ID"), Always("NAME"), Wide("MORE")];
        let mut page = Page::new(false, true);
        page.table(columns, rows());
        assert_eq!(page.into_text(), "ID  NAME\n1   a\\x0ab\\x1b[31m\n");
        let mut page = Page::new(true, false);
        page.table(columns, rows());
        assert_eq!(page.into_text(), "1  a\\x0ab\\x1b[31m  w\n");
        let mut page = Page::new(false, true);
        page.table(
            [Always("A"), Always("B")],
            [["漢".to_owned(), "1".to_owned()], ["é".to_owned(), String::new()]],
        );
        assert_eq!(page.into_text(), "A   B\n漢  1\né\n", "by the cells of a terminal that they take");
    }

    #[test]
    fn values_of_fields_begin_in_one_column() {
        let mut page = Page::new(false, true);
        page.field("A", 1);
        page.field("Longer than most", 2);
        page.gap();
        page.field("B", 3);
        assert_eq!(page.into_text(), "A:                1\nLonger than most: 2\n\nB:            3\n");
    }

    #[test]
    fn sizes() {
        for (bytes, text) in
            [(0, "0B"), (1_023, "1023B"), (1_536, "1.5K"), (5 << 30, "5.0G"), (200 << 20, "200M")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
