//! What commands print: tables and sentences for people, or with `--json` one JSON value for programs.

use std::io::{self, BufRead, IsTerminal};

use serde_json::{Value, json};

/// Says on standard error what went wrong: in words, or with `--json` as an object.
pub fn report(error: &anyhow::Error, json: bool) {
    let text = describe(error);
    if json {
        eprintln!("{}", json!({ "error": text }));
    } else {
        eprintln!("error: {text}");
    }
}

/// An error and its causes. Many tell what caused them themselves: nothing is told twice.
fn describe(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// Asks on the terminal; without one the answer is no.
pub fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

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

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::describe;

    #[test]
    fn each_cause_is_told_once() {
        let refused = || anyhow!("connection refused");
        assert_eq!(describe(&refused()), "connection refused");
        let repeats = refused().context("postgres: connection refused").context("asking Postgres");
        assert_eq!(describe(&repeats), "asking Postgres: postgres: connection refused");
        let told = Err::<(), _>(refused()).context("the audit").context("a user").unwrap_err();
        assert_eq!(describe(&told), "a user: the audit: connection refused");
    }
}
