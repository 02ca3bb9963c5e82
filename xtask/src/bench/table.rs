//! The result, as a person reads it.

use std::fmt::Write;

/// What was measured of one row.
pub struct Measured {
    pub title: String,
    /// CPU per request in nanoseconds, by round, of each start.
    pub starts: Vec<Vec<f64>>,
    pub requests: u64,
}

impl Measured {
    /// Nothing yet.
    pub fn of(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            starts: Vec::new(),
            requests: 0,
        }
    }

    fn rounds(&self) -> impl Iterator<Item = f64> {
        self.starts.iter().flatten().copied()
    }

    /// The least of each start.
    fn minima(&self) -> impl Iterator<Item = f64> {
        let starts = self.starts.iter();
        starts.map(|rounds| minimum(rounds.iter().copied()))
    }
}

/// A line per row. A ratio is to the first row, once of the same round and once of the minima of the same
/// start: programs beside these only ever add to a round, while where code and memory lie is the luck of a
/// start and may be good or bad. Both are the median of all.
pub fn table(rows: &[Measured]) -> String {
    let mut text = format!(
        "{:<32}{:>12}{:>12}{:>14}{:>14}{:>12}\n",
        "", "ns, median", "ns, minimum", "ratio, median", "ratio, min.", "requests"
    );
    let Some(first) = rows.first() else {
        return text;
    };
    for row in rows {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{:<32}{:>12.0}{:>12.0}{:>14.2}{:>14.2}{:>12}",
            row.title,
            median(row.rounds()),
            minimum(row.rounds()),
            median(ratios(row.rounds(), first.rounds())),
            median(ratios(row.minima(), first.minima())),
            row.requests,
        );
    }
    text
}

fn ratios(
    ours: impl Iterator<Item = f64>,
    base: impl Iterator<Item = f64>,
) -> impl Iterator<Item = f64> {
    ours.zip(base).map(|(ours, base)| ours / base)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        Some(upper) if sorted.len() % 2 == 1 => *upper,
        Some(upper) => (sorted[middle - 1] + upper) / 2.0,
        None => f64::NAN,
    }
}

fn minimum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let median = |values: &[f64]| median(values.iter().copied());
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_to_the_first_row_of_the_same_round_and_of_the_same_start() {
        let row = |title: &str, starts: [[f64; 3]; 3]| Measured {
            title: title.into(),
            starts: starts.map(|rounds| rounds.to_vec()).to_vec(),
            requests: 7,
        };
        // The third start was slow for the first row, and its last round for both.
        let base = row(
            "base",
            [[100.0, 110.0, 120.0], [100.0; 3], [150.0, 150.0, 300.0]],
        );
        let ours = row(
            "ours",
            [[140.0, 165.0, 180.0], [150.0; 3], [150.0, 225.0, 450.0]],
        );
        let text = table(&[base, ours]);
        let ours: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(ours, ["ours", "150", "140", "1.50", "1.40", "7"]);
    }
}
