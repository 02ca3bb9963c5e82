//! `override` of a service.

use crate::{
    overrides::{Override, OverrideKind},
    reader::Reader,
    time::parse_instant,
};

/// Reads `{kind: bypass, until: 2026-11-25T19:30+05:30}`.
pub fn read_override(reader: &Reader<'_>) -> Option<Override> {
    let mut said = reader.object()?;
    let kind = said.required("kind").and_then(|kind| {
        kind.parsed(|text| {
            let mut kinds = OverrideKind::ALL.into_iter();
            kinds
                .find(|kind| kind.as_str() == text)
                .ok_or_else(|| format!("must be bypass, observe, peak or normal, not {text:?}"))
        })
    });
    let until = said
        .required("until")
        .and_then(|until| until.parsed(parse_instant));
    said.finish();
    Some(Override {
        kind: kind?,
        until: until?,
    })
}
