//! Units and names whose values are legal by construction.

use std::{borrow::Borrow, fmt};

/// Why a value is not what its type stands for; the text names the legal range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// A number outside its range.
    #[error("must be {range}, not {found}")]
    OutOfRange {
        /// The legal range in words.
        range: &'static str,
        /// What was given.
        found: String,
    },
    /// A text that breaks the rules of its kind of name.
    #[error("{found:?} is not legal: must be {rule}")]
    Malformed {
        /// The rule in words.
        rule: &'static str,
        /// What was given, shortened.
        found: String,
    },
    /// A duration without its unit.
    #[error("{0:?} has no unit: did you mean \"{0}ms\" or \"{0}s\"?")]
    NoUnit(String),
    /// A word that has a meaning of its own.
    #[error("{0:?} is reserved: it means every endpoint that is not the canary")]
    Reserved(&'static str),
    /// A rule for a time zone that is not POSIX TZ.
    #[error(
        "{0:?} is not a POSIX TZ rule of at most 100 characters, such as \"IST-5:30\" or \"EST5EDT,M3.2.0,M11.1.0\""
    )]
    TimeZone(String),
}

/// Error texts stay readable however long the input was.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_string(),
    }
}

pub(crate) fn malformed(rule: &'static str, found: &str) -> UnitError {
    UnitError::Malformed {
        rule,
        found: shortened(found),
    }
}

/// What was given is digits only.
pub(crate) fn no_unit(found: &str) -> UnitError {
    UnitError::NoUnit(shortened(found))
}

/// The parser's own reason is left out: the texts of jiff's errors are a tenth of the filter.
pub(crate) fn time_zone(found: &str) -> UnitError {
    UnitError::TimeZone(shortened(found))
}

/// A share in hundredths of a percent, `0..=10_000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BasisPoints(u16);

impl BasisPoints {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(10_000);

    /// From hundredths of a percent.
    ///
    /// # Errors
    /// Above 10,000.
    pub fn new(basis_points: u32) -> Result<Self, UnitError> {
        match u16::try_from(basis_points) {
            Ok(legal @ 0..=10_000) => Ok(Self(legal)),
            _ => Err(UnitError::OutOfRange {
                range: "0 to 10000 basis points",
                found: basis_points.to_string(),
            }),
        }
    }

    /// From percent.
    ///
    /// # Errors
    /// Outside `0..=100`, or with more than two decimals (a finer share than is told apart).
    pub fn from_percent(percent: f64) -> Result<Self, UnitError> {
        hundredths(percent)
            .and_then(|hundredths| Self::new(hundredths).ok())
            .ok_or_else(|| UnitError::OutOfRange {
                range: "0 to 100 percent with at most 2 decimals",
                found: percent.to_string(),
            })
    }

    /// Hundredths of a percent, `0..=10_000`.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Percent, `0.0..=100.0`.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for BasisPoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} %", self.percent())
    }
}

/// A factor in hundredths, `0.01..=100.00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier(u32);

impl Multiplier {
    /// Changes nothing.
    pub const ONE: Self = Self(100);

    /// From a factor.
    ///
    /// # Errors
    /// Outside `0.01..=100`, or with more than two decimals.
    pub fn from_f64(factor: f64) -> Result<Self, UnitError> {
        hundredths(factor)
            .filter(|hundredths| (1..=10_000).contains(hundredths))
            .map(Self)
            .ok_or_else(|| UnitError::OutOfRange {
                range: "0.01 to 100 with at most 2 decimals",
                found: factor.to_string(),
            })
    }

    /// Hundredths: 150 for 1.5.
    pub fn percent(self) -> u32 {
        self.0
    }

    /// The factor itself.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl Default for Multiplier {
    fn default() -> Self {
        Self::ONE
    }
}

/// `1.5`, `2`: without trailing zeros.
impl fmt::Display for Multiplier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(formatter, "{whole}"),
            tenths if tenths % 10 == 0 => write!(formatter, "{whole}.{}", tenths / 10),
            _ => write!(formatter, "{whole}.{rest:02}"),
        }
    }
}

/// A number of at most two decimals times 100. Every such number up to 1,000,000 is recognised.
fn hundredths(number: f64) -> Option<u32> {
    if !(0.0..=1_000_000.0).contains(&number) {
        return None;
    }
    let scaled = number * 100.0;
    let rounded = scaled.round();
    // Binary doubles miss decimals by a few units in the last place: 0.29 * 100 is 28.999999999999996.
    if (scaled - rounded).abs() > 1e-6 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above: 0..=1e8"
    )]
    let whole = rounded as u32;
    Some(whole)
}

const NAME_RULE: &str = "1 to 63 letters, digits, dots, underscores or hyphens, beginning and ending with a letter or digit";

fn checked_name(name: &str) -> Result<Box<str>, UnitError> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let legal = bytes.len() <= 63
        && bytes.iter().copied().all(inside)
        && ends
            .iter()
            .all(|end| end.is_some_and(u8::is_ascii_alphanumeric));
    if legal {
        Ok(name.into())
    } else {
        Err(malformed(NAME_RULE, name))
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr, $errors:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes a text that keeps the rules.
            ///
            /// # Errors
            #[doc = $errors]
            pub fn new(text: &str) -> Result<Self, UnitError> {
                $check(text).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// So that maps are asked with any text.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// A service, as clients and routes call it.
    ServiceName,
    checked_name,
    "Other than 1 to 63 of `[A-Za-z0-9._-]`, with a letter or digit at both ends."
);
text_type!(
    /// The version of some endpoints of a service. `stable` is reserved for all the others.
    VersionLabel,
    checked_version,
    "Other than 1 to 63 of `[A-Za-z0-9._-]` with a letter or digit at both ends, or `stable`."
);
text_type!(
    /// An availability zone.
    ZoneName,
    checked_name,
    "Other than 1 to 63 of `[A-Za-z0-9._-]`, with a letter or digit at both ends."
);
text_type!(
    /// A traffic class; `silver` unless somebody says otherwise.
    ClassName,
    checked_name,
    "Other than 1 to 63 of `[A-Za-z0-9._-]`, with a letter or digit at both ends."
);
text_type!(
    /// What people call a window or a festival.
    DisplayName,
    checked_display_name,
    "Empty, longer than 100 characters, or holding control characters."
);
text_type!(
    /// The name of a request header, in lower case.
    HeaderName,
    checked_header,
    "Not an HTTP token, or a pseudo-header such as `:path`."
);

impl Default for ClassName {
    fn default() -> Self {
        Self("silver".into())
    }
}

impl DisplayName {
    /// The name as it may stand in a header's list: every byte that is not visible ASCII, and `%`
    /// and `,`, percent-encoded.
    pub fn header_form(&self) -> String {
        let mut form = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            match byte {
                b'%' | b',' => form.push_str(&format!("%{byte:02X}")),
                visible if visible.is_ascii_graphic() => form.push(char::from(visible)),
                hidden => form.push_str(&format!("%{hidden:02X}")),
            }
        }
        form
    }
}

fn checked_version(label: &str) -> Result<Box<str>, UnitError> {
    if label == crate::names::STABLE {
        return Err(UnitError::Reserved(crate::names::STABLE));
    }
    checked_name(label)
}

fn checked_display_name(name: &str) -> Result<Box<str>, UnitError> {
    let length = name.chars().count();
    if (1..=100).contains(&length) && !name.chars().any(char::is_control) {
        Ok(name.into())
    } else {
        Err(malformed(
            "1 to 100 characters, none of them a control character",
            name,
        ))
    }
}

/// Header names know no case; HTTP/2 and Envoy write them in lower case, and so do we.
fn checked_header(name: &str) -> Result<Box<str>, UnitError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=200).contains(&name.len()) && name.bytes().all(token) {
        Ok(name.to_ascii_lowercase().into())
    } else {
        Err(malformed(
            "the name of a request header such as x-user-id",
            name,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_has_two_decimals_and_errors_name_the_range() {
        assert_eq!(BasisPoints::from_percent(0.29).unwrap().get(), 29);
        assert_eq!(BasisPoints::from_percent(33.33).unwrap().get(), 3333);
        assert_eq!(BasisPoints::from_percent(100.0).unwrap(), BasisPoints::ALL);
        for wrong in [100.01, -0.01, 0.001, f64::NAN, f64::INFINITY] {
            let error = BasisPoints::from_percent(wrong).unwrap_err().to_string();
            assert!(error.contains("0 to 100 percent"), "{error}");
        }
        assert!(BasisPoints::new(10_001).is_err());
    }

    #[test]
    fn every_basis_point_survives_the_way_through_percent() {
        for points in 0..=10_000 {
            let exact = BasisPoints::new(points).unwrap();
            assert_eq!(BasisPoints::from_percent(exact.percent()), Ok(exact));
        }
    }

    #[test]
    fn multipliers_print_without_trailing_zeros() {
        for (factor, text) in [
            (1.5, "1.5"),
            (2.0, "2"),
            (1.25, "1.25"),
            (0.01, "0.01"),
            (10.05, "10.05"),
        ] {
            assert_eq!(Multiplier::from_f64(factor).unwrap().to_string(), text);
        }
        assert_eq!(Multiplier::from_f64(1.5).unwrap().percent(), 150);
        assert!(Multiplier::from_f64(0.0).is_err());
        assert!(Multiplier::from_f64(100.01).is_err());
    }

    #[test]
    fn names_begin_and_end_with_letter_or_digit() {
        for legal in ["a", "order-service", "v1.2_3", "7"] {
            assert!(ServiceName::new(legal).is_ok(), "{legal}");
        }
        let long = "a".repeat(64);
        for wrong in ["", "-a", "a-", "a b", "a|b", "é", long.as_str()] {
            assert!(ServiceName::new(wrong).is_err(), "{wrong}");
        }
        assert!(VersionLabel::new("stable").is_err());
        assert!(VersionLabel::new("v2").is_ok());
    }

    #[test]
    fn a_festivals_name_stands_in_a_header_percent_encoded() {
        let form = |name: &str| DisplayName::new(name).unwrap().header_form();
        assert_eq!(form("Diwali"), "Diwali");
        assert_eq!(form("दी"), "%E0%A4%A6%E0%A5%80");
        assert_eq!(form("50%, now"), "50%25%2C%20now");
        assert!(DisplayName::new("a\nb").is_err());
        assert!(DisplayName::new(&"é".repeat(100)).is_ok());
        assert!(DisplayName::new(&"é".repeat(101)).is_err());
    }

    #[test]
    fn header_names_are_tokens_in_lower_case() {
        assert_eq!(HeaderName::new("X-User-Id").unwrap().as_str(), "x-user-id");
        for wrong in ["", ":path", "a b", "a:b", "é"] {
            assert!(HeaderName::new(wrong).is_err(), "{wrong}");
        }
    }
}
