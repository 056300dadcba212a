//! Tables for people: columns as wide as they need to be.

/// Which side of its column a cell stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a head, one a line.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        // A key may hold anything but control characters; an error message anything at all.
        let plain = |cell: String| cell.replace(|c: char| c.is_control(), " ");
        self.rows.push(cells.into_iter().map(plain).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The head, then the rows.
    pub(crate) fn lines(&self) -> Vec<String> {
        let head: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let width = |column: usize| {
            let cells = std::iter::once(&head).chain(&self.rows);
            cells.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells =
                row.iter().zip(&self.columns).zip(&widths).map(|((cell, (_, align)), width)| match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        std::iter::once(&head).chain(&self.rows).map(line).collect()
    }
}

/// A text cut to `max` characters, the last of them then an ellipsis.
pub(crate) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// So many things: `1 job`, `2 jobs`.
pub(crate) fn some(count: u64, thing: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("QUEUE", Align::Left), ("N", Align::Right), ("NOTE", Align::Left)]);
        table.row(vec!["é".to_owned(), "7".to_owned(), String::new()]);
        table.row(vec!["invoices".to_owned(), "1234".to_owned(), "a\nb".to_owned()]);
        assert_eq!(table.lines(), ["QUEUE        N  NOTE", "é            7", "invoices  1234  a b"]);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("ééé", 3), "ééé");
        assert_eq!(cut("éééé", 3), "éé…");
    }
}
