//! Ranges of dates, and the festivals that fill them.

use jiff::civil::Date;

use crate::units::{DisplayName, Multiplier, UnitError, malformed};

/// Whole days, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DateRange {
    start: Date,
    end: Date,
}

impl DateRange {
    /// From `start` to `end`, both included.
    ///
    /// # Errors
    /// When `end` lies before `start`.
    pub fn new(start: Date, end: Date) -> Result<Self, UnitError> {
        if end < start {
            return Err(malformed(
                "a range of dates that ends on or after its start",
                &format!("{start} to {end}"),
            ));
        }
        Ok(Self { start, end })
    }

    /// One day.
    pub fn day(date: Date) -> Self {
        Self {
            start: date,
            end: date,
        }
    }

    /// The first day.
    pub fn start(self) -> Date {
        self.start
    }

    /// The last day.
    pub fn end(self) -> Date {
        self.end
    }

    /// From the first day of either to the last one of either.
    pub(super) fn joined_with(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// Whether `date` is one of its days.
    pub fn contains(self, date: Date) -> bool {
        self.start <= date && date <= self.end
    }
}

/// Reads `2026-11-08`, in the years 1900 to 2999.
///
/// # Errors
/// Anything else, and days that no calendar has.
pub fn parse_date(text: &str) -> Result<Date, UnitError> {
    let wrong = || malformed("a date such as 2026-11-08 in the years 1900 to 2999", text);
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = match (parts.next(), parts.next(), parts.next()) {
        (Some(year), Some(month), Some(day))
            if (year.len(), month.len(), day.len()) == (4, 2, 2)
                && [year, month, day].into_iter().all(digits) =>
        {
            (year, month, day)
        }
        _ => return Err(wrong()),
    };
    let year: i16 = year.parse().map_err(|_| wrong())?;
    let (month, day) = (
        month.parse().map_err(|_| wrong())?,
        day.parse().map_err(|_| wrong())?,
    );
    if !(1900..=2999).contains(&year) {
        return Err(wrong());
    }
    Date::new(year, month, day).map_err(|_| wrong())
}

/// Days on which more happens than on others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Festival {
    /// What people call it.
    pub name: DisplayName,
    /// Its days, both ends included, in the mesh's own time zone.
    pub dates: DateRange,
    /// How much more traffic it brings.
    pub factor: Multiplier,
    /// Banks rest: its days are holidays too.
    pub holiday: bool,
    /// Where its date comes from, for people.
    pub source: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_spelling() {
        assert_eq!(parse_date("2026-11-08").unwrap().to_string(), "2026-11-08");
        for wrong in [
            "",
            "2026-11-8",
            "2026-02-29",
            "20261108",
            "2026-11-08T00",
            "0000-01-01",
            "-026-01-01",
        ] {
            assert!(parse_date(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_include_both_ends_and_never_run_backwards() {
        let date = |text: &str| parse_date(text).unwrap();
        let range = DateRange::new(date("2026-11-06"), date("2026-11-10")).unwrap();
        assert!(range.contains(date("2026-11-06")) && range.contains(date("2026-11-10")));
        assert!(!range.contains(date("2026-11-11")));
        assert!(DateRange::new(date("2026-11-06"), date("2026-11-05")).is_err());
    }
}
