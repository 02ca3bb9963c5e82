//! Raw resources as the store keeps them: a row for each resource that calls hold, and one for each file's
//! last good text.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::key::{Entry, Key, Nodes};
use crate::{resource::ResourceType, store};

const RESOURCE: &str = "resource";
const FILE: &str = "file";

/// What a row is of.
#[derive(Debug, PartialEq, Eq)]
pub enum Row {
    /// A resource that calls hold.
    Resource(Key),
    /// The file of this name.
    File(Arc<str>),
}

/// The key of a resource's row.
pub fn of_resource(key: &Key) -> Arc<str> {
    let (nodes, of) = match &key.nodes {
        Nodes::All => ("", ""),
        Nodes::Cluster(cluster) => ("cluster", &**cluster),
        Nodes::Id(id) => ("id", &**id),
    };
    store::key(&[RESOURCE, nodes, of, key.kind.url(), &key.name])
}

/// The key of a file's row.
pub fn of_file(name: &str) -> Arc<str> {
    store::key(&[FILE, name])
}

/// What a key is of; none for what a later version made.
pub fn read(key: &str) -> Option<Row> {
    let words: Vec<String> = serde_json::from_str(key).ok()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        [FILE, name] => Some(Row::File(name.into())),
        [RESOURCE, nodes, of, url, name] => Some(Row::Resource(Key {
            nodes: match nodes {
                "" => Nodes::All,
                "cluster" => Nodes::Cluster(of.into()),
                "id" => Nodes::Id(of.into()),
                _ => return None,
            },
            kind: ResourceType::from_url(url)?,
            name: name.into(),
        })),
        _ => None,
    }
}

/// The value of a resource's row.
pub fn value(entry: &Entry) -> Arc<str> {
    let Entry {
        overrides, body, ..
    } = entry;
    format!("{{\"override\":{overrides},\"resource\":{body}}}").into()
}

/// `override` and the JSON of a resource's row.
pub fn read_value(value: &str) -> Option<(bool, &str)> {
    #[derive(Deserialize)]
    struct Kept<'v> {
        #[serde(rename = "override")]
        overrides: bool,
        #[serde(borrow)]
        resource: &'v RawValue,
    }
    let kept: Kept<'_> = serde_json::from_str(value).ok()?;
    Some((kept.overrides, kept.resource.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_whatever_names_hold() {
        let names = ["", "a", "नाम", "\"]\u{0},[", "a\"b"];
        for name in names {
            for nodes in [
                Nodes::All,
                Nodes::Cluster(name.into()),
                Nodes::Id(name.into()),
            ] {
                let key = Key {
                    nodes,
                    kind: ResourceType::Cluster,
                    name: name.into(),
                };
                assert_eq!(read(&of_resource(&key)), Some(Row::Resource(key)));
            }
            assert_eq!(read(&of_file(name)), Some(Row::File(name.into())));
        }
        assert_eq!(read("[\"file\",\"a\",\"b\"]"), None);
        assert_eq!(
            read_value("{\"override\":true,\"resource\":{\"a\": [1]}}"),
            Some((true, "{\"a\": [1]}"))
        );
    }
}
