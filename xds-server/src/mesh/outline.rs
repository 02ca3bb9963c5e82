//! Where everything in a YAML text stands. Made only when something is wrong, by a second pass: a tree
//! without places is enough as long as all is well.

use std::collections::HashMap;

use granit_parser::{Event, Parser};
use policy::reader::{joined, shown};

use super::place::Position;

/// The key of YAML's merge.
const MERGE: &str = "<<";

type NodeId = usize;

/// Keys and elements of a text with their places; of a text that breaks off, as far as it goes.
#[derive(Debug, Default)]
pub struct Outline {
    nodes: Vec<Node>,
    anchors: HashMap<usize, NodeId>,
    duplicates: Vec<Duplicate>,
}

#[derive(Debug)]
enum Node {
    Scalar,
    List(Vec<(Position, NodeId)>),
    Map(Vec<Entry>),
    Alias(usize),
}

#[derive(Debug)]
struct Entry {
    key: String,
    at: Position,
    value: NodeId,
}

/// A key that its map has twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Duplicate {
    /// Of the key.
    pub path: String,
    pub first: Position,
    pub again: Position,
}

/// A collection whose end has not come.
struct Open {
    node: NodeId,
    path: String,
    /// Of a map: the key whose value comes next.
    key: Option<(String, Position)>,
    keys: HashMap<String, Position>,
}

impl Outline {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let mut outline = Self::default();
        let mut open: Vec<Open> = Vec::new();
        let mut parser = Parser::new_from_str(text);
        while let Some(Ok((event, span))) = parser.next_event() {
            let at = Position {
                line: span.start.line(),
                column: span.start.col() + 1,
            };
            outline.take(event, at, &mut open);
        }
        outline
    }

    /// Keys that are there twice, in the text's order.
    pub(super) fn duplicates(&self) -> &[Duplicate] {
        &self.duplicates
    }

    /// Where the value at `path` is named: its key, or the element of its list. Where there is none, where
    /// it would stand: what encloses it.
    pub fn find(&self, path: &str) -> Option<Position> {
        let mut found = None;
        let mut node = self.nodes.first()?;
        let mut rest = path;
        while !rest.is_empty() {
            let Some((at, value, behind)) = self.step(node, rest) else {
                break;
            };
            (found, rest) = (Some(at), behind);
            node = self.nodes.get(value)?;
        }
        found
    }

    /// One step along a path: where the member stands, its value, and what is left of the path.
    fn step<'p>(&self, node: &Node, path: &'p str) -> Option<(Position, NodeId, &'p str)> {
        match node {
            Node::Scalar => None,
            Node::Alias(anchor) => self.step(self.nodes.get(*self.anchors.get(anchor)?)?, path),
            Node::List(elements) => {
                let (index, behind) = path.strip_prefix('[')?.split_once(']')?;
                let (at, value) = elements.get(index.parse::<usize>().ok()?)?;
                Some((*at, *value, behind))
            }
            Node::Map(entries) => self
                .step_to_key(entries, path.strip_prefix('.').unwrap_or(path))
                .or_else(|| self.step_into_merged(entries, path)),
        }
    }

    /// A key may hold dots, so that several can begin the path: the longest is meant.
    fn step_to_key<'p>(
        &self,
        entries: &[Entry],
        path: &'p str,
    ) -> Option<(Position, NodeId, &'p str)> {
        let begins = |entry: &Entry| Some((entry.at, entry.value, after_key(path, &entry.key)?));
        let entries = entries.iter().filter_map(begins);
        entries.min_by_key(|(_, _, behind)| behind.len())
    }

    /// `<<: *base` lends a map the keys of another.
    fn step_into_merged<'p>(
        &self,
        entries: &[Entry],
        path: &'p str,
    ) -> Option<(Position, NodeId, &'p str)> {
        let merged = entries.iter().filter(|entry| entry.key == MERGE);
        let bases = merged.flat_map(|entry| match self.nodes.get(entry.value) {
            Some(Node::List(bases)) => bases.iter().map(|(_, base)| *base).collect(),
            _ => vec![entry.value],
        });
        let mut found = bases.filter_map(|base| self.step(self.nodes.get(base)?, path));
        found.next()
    }

    fn take(&mut self, event: Event<'_>, at: Position, open: &mut Vec<Open>) {
        let (node, anchor) = match event {
            Event::Scalar(text, _, anchor, _) => {
                if self.is_key(open) {
                    self.name(text.into_owned(), at, open);
                    return;
                }
                (Node::Scalar, anchor)
            }
            Event::Alias(anchor) => (Node::Alias(anchor), 0),
            Event::SequenceStart(_, anchor, _) => (Node::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => (Node::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                return;
            }
            _ => return,
        };
        if self.is_key(open) {
            // A key that is no text is refused by who reads the tree; no path leads through it.
            self.name(String::new(), at, open);
        }
        let is_collection = matches!(node, Node::List(_) | Node::Map(_));
        let id = self.nodes.len();
        self.nodes.push(node);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        let path = self.add(id, at, open);
        if is_collection {
            open.push(Open {
                node: id,
                path,
                key: None,
                keys: HashMap::new(),
            });
        }
    }

    /// Whether a key is what comes next.
    fn is_key(&self, open: &[Open]) -> bool {
        open.last().is_some_and(|last| {
            last.key.is_none() && matches!(self.nodes.get(last.node), Some(Node::Map(_)))
        })
    }

    /// Takes the key of the value to come.
    fn name(&mut self, key: String, at: Position, open: &mut [Open]) {
        let Some(map) = open.last_mut() else {
            return;
        };
        match map.keys.get(&key) {
            Some(first) if key != MERGE && !key.is_empty() => self.duplicates.push(Duplicate {
                path: joined(&map.path, &key),
                first: *first,
                again: at,
            }),
            _ => _ = map.keys.insert(key.clone(), at),
        }
        map.key = Some((key, at));
    }

    /// Puts a value into the collection that is open, and gives its path.
    fn add(&mut self, id: NodeId, at: Position, open: &mut [Open]) -> String {
        let Some(last) = open.last_mut() else {
            return String::new();
        };
        match self.nodes.get_mut(last.node) {
            Some(Node::List(elements)) => {
                elements.push((at, id));
                format!("{}[{}]", last.path, elements.len() - 1)
            }
            Some(Node::Map(entries)) => {
                let (key, at) = last.key.take().unwrap_or((String::new(), at));
                let path = joined(&last.path, &key);
                entries.push(Entry { key, at, value: id });
                path
            }
            _ => String::new(),
        }
    }
}

/// What follows `key` in `path`, if `path` begins with it.
pub(super) fn after_key<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let behind = path.strip_prefix(shown(key).as_str())?;
    (behind.is_empty() || behind.starts_with(['.', '['])).then_some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
mesh: {name: mumbai}
defaults: &defaults
  timeout: 2s
services:
  a.b: {port: 1}
  a:
    <<: *defaults
    ports: [80, 81]
    nested: *defaults
  \"\\u0926\\u0940\":
    port: 8080
";

    fn find(path: &str) -> Option<(usize, usize)> {
        let at = Outline::of(TEXT).find(path)?;
        Some((at.line, at.column))
    }

    #[test]
    fn a_path_leads_to_its_key_or_element() {
        assert_eq!(find("mesh.name"), Some((2, 8)));
        assert_eq!(find("services.a.ports[1]"), Some((9, 17)));
        assert_eq!(find("services.दी.port"), Some((12, 5)));
        assert_eq!(find("services.a.b.port"), Some((6, 9)), "a key with a dot");
    }

    #[test]
    fn what_comes_by_an_alias_or_a_merge_is_found_where_it_is_written() {
        assert_eq!(find("services.a.timeout"), Some((4, 3)));
        assert_eq!(find("services.a.nested.timeout"), Some((4, 3)));
    }

    #[test]
    fn what_is_not_there_is_looked_for_in_what_would_enclose_it() {
        assert_eq!(find("services.a.canary.weight"), Some((7, 3)));
        assert_eq!(find("services.a.ports[7]"), Some((9, 5)));
        assert_eq!(find("gateways"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn every_key_that_comes_twice_is_known_with_both_places() {
        let text = "a: 1\nb: {c: 1, c: 2}\na: 2\nlist: [{d: 1, d: 2}]\n<<: {}\n<<: {}\n";
        let outline = Outline::of(text);
        let told: Vec<_> = outline
            .duplicates()
            .iter()
            .map(|twice| (twice.path.as_str(), twice.first.line, twice.again.column))
            .collect();
        assert_eq!(told, [("b.c", 2, 11), ("a", 1, 1), ("list[0].d", 4, 15)]);
    }

    #[test]
    fn a_text_that_breaks_off_is_known_as_far_as_it_goes() {
        for text in [
            "a: {b: [1, 2",
            "a: 1\nb: {c: @",
            "",
            "- ? [x]: y",
            "&a [*a]",
            "? {a: 1}\n: 2",
        ] {
            let _ = Outline::of(text).find("a.b[1]");
        }
        assert!(Outline::of("a: {b: 1, c: [").find("a.b").is_some());
    }
}
