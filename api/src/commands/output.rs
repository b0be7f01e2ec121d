//! What commands print: tables and sentences for people, or with `--json` one JSON value for programs.

use serde_json::Value;

/// How to print.
#[derive(Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Something was done.
    pub fn done(self, words: &str, value: &Value) {
        if self.json {
            println!("{value}");
        } else {
            println!("{words}");
        }
    }

    /// A list; `columns` names the fields of its objects that people see.
    pub fn table(self, columns: &[&str], rows: impl IntoIterator<Item = Value>) {
        let rows: Vec<Value> = rows.into_iter().collect();
        if self.json {
            println!("{}", Value::Array(rows));
            return;
        }
        let cells = |row: &Value| -> Vec<String> { columns.iter().map(|column| cell(&row[*column])).collect() };
        let mut lines = vec![columns.iter().map(|column| column.to_uppercase()).collect()];
        lines.extend(rows.iter().map(cells));
        let width = |column: usize| lines.iter().map(|line: &Vec<String>| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or_default()).collect();
        for line in &lines {
            let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().filter(|character| !character.is_control()).collect(),
        other => other.to_string(),
    }
}
