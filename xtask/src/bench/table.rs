//! The result, as a person reads it.

use std::fmt::Write;

/// What was measured of one row.
pub struct Measured {
    pub title: String,
    /// CPU per request in nanoseconds, by round.
    pub nanos: Vec<f64>,
    pub requests: u64,
}

impl Measured {
    /// Nothing yet.
    pub fn of(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            nanos: Vec::new(),
            requests: 0,
        }
    }

    /// Adds what was measured of the same row.
    pub fn add(&mut self, other: Self) {
        self.nanos.extend(other.nanos);
        self.requests += other.requests;
    }
}

/// A line per row. A ratio is to the first row: of the same round for the median, of the minima for
/// the minimum.
pub fn table(rows: &[Measured]) -> String {
    let mut text = format!(
        "{:<32}{:>12}{:>12}{:>14}{:>14}{:>12}\n",
        "", "ns, median", "ns, minimum", "ratio, median", "ratio, min.", "requests"
    );
    let Some(first) = rows.first() else {
        return text;
    };
    for row in rows {
        let rounds = row.nanos.iter().zip(&first.nanos);
        let ratios: Vec<f64> = rounds.map(|(ours, base)| ours / base).collect();
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{:<32}{:>12.0}{:>12.0}{:>14.2}{:>14.2}{:>12}",
            row.title,
            median(&row.nanos),
            minimum(&row.nanos),
            median(&ratios),
            minimum(&row.nanos) / minimum(&first.nanos),
            row.requests,
        );
    }
    text
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        Some(upper) if sorted.len() % 2 == 1 => *upper,
        Some(upper) => (sorted[middle - 1] + upper) / 2.0,
        None => f64::NAN,
    }
}

fn minimum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_to_the_first_row_of_the_same_round() {
        let row = |title: &str, nanos: &[f64]| Measured {
            title: title.into(),
            nanos: nanos.to_vec(),
            requests: 7,
        };
        // The third round was slow for both.
        let base = row("base", &[100.0, 110.0, 200.0]);
        let ours = row("ours", &[150.0, 165.0, 300.0]);
        let text = table(&[base, ours]);
        let ours: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(ours, ["ours", "165", "150", "1.50", "1.50", "7"]);
    }
}
