//! Top-level fields with nothing behind them. A file that breaks off after `services:` must not empty a
//! mesh, so what is meant to be empty has to say so.

use policy::reader::Problem;

/// Every field of the file, and what is written behind it where there is nothing to say.
const FIELDS: [(&str, Option<&str>); 12] = [
    ("mesh", Some("{}")),
    ("timezone", None),
    ("peak_hours", Some("{}")),
    ("festivals", Some("[]")),
    ("holidays", Some("[]")),
    ("freeze", None),
    ("traffic_classes", Some("{}")),
    ("services", Some("{}")),
    ("gateways", Some("{}")),
    ("access_log", None),
    ("tracing", None),
    ("max_connection_duration", None),
];

/// What is wrong with `field:` and no more; `None` where there is no such field anyway.
pub(super) fn problem(field: &str) -> Option<Problem> {
    let (_, empty) = FIELDS.iter().find(|(known, _)| *known == field)?;
    let hint = empty.map_or_else(
        || "give it a value, or take the line out".into(),
        |empty| format!("is the file cut off? If it is meant to be empty, write {field}: {empty}"),
    );
    Some(Problem {
        path: field.into(),
        message: "has no value".into(),
        hint: Some(hint),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_file_is_known() {
        let fields = crate::reference::MESH_FILE.fields.iter();
        let names = fields.map(|field| field.name);
        // The list of includes is read apart, and refuses null by itself.
        let names: Vec<&str> = names
            .filter(|name| *name != super::super::INCLUDE)
            .collect();
        assert_eq!(FIELDS.map(|(name, _)| name).to_vec(), names);
    }
}
