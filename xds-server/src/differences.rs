//! Where two values differ, field by field, as people look at a change: elements of lists are known by
//! what identifies them, and not by their place. Pure.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt::{self, Display},
};

use serde_json::{Map, Value};
use similar::{Algorithm, DiffOp, capture_diff_slices};

/// One place in which two values differ. What is not there is null.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Where.
    pub path: Path,
    /// What is there in the first one.
    pub before: Value,
    /// What is there in the second one.
    pub after: Value,
}

/// From the whole to a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(Vec<Step>);

/// From an object or a list to a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A field.
    Field(String),
    /// An element of a list, by what identifies it there.
    Element(String),
    /// An element by its place: in the second value, or in the first where the second has it no more.
    Index(usize),
    /// The order of a list's elements.
    Order,
}

/// How elements of lists are told apart.
#[derive(Clone, Copy)]
pub enum Lists<'i> {
    /// A list is one value.
    Whole,
    /// By this identity, where all elements of both lists have one of their own; else by their place.
    ByElement(&'i dyn Fn(&Value) -> Option<String>),
}

impl Path {
    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Names of fields and elements on the way, and nothing for a place.
    pub fn names(&self) -> Vec<&str> {
        let name = |step| match step {
            &Step::Field(ref name) | &Step::Element(ref name) => name.as_str(),
            Step::Index(_) | Step::Order => "",
        };
        self.0.iter().map(name).collect()
    }

    fn to(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

/// `services.order-service.endpoints[order-1].weight`.
impl Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if number == 0 => formatter.write_str(name)?,
                Step::Field(name) => write!(formatter, ".{name}")?,
                Step::Element(name) => write!(formatter, "[{name}]")?,
                Step::Index(index) => write!(formatter, "[{index}]")?,
                Step::Order => formatter.write_str(" (order)")?,
            }
        }
        Ok(())
    }
}

/// Every place in which two values differ, and none if they are equal. What is null is not there.
pub fn differences(before: &Value, after: &Value, lists: Lists<'_>) -> Vec<Difference> {
    let mut search = Search {
        lists,
        found: Vec::new(),
    };
    search.values(&Path::default(), before, after);
    search.found
}

struct Search<'i> {
    lists: Lists<'i>,
    found: Vec<Difference>,
}

impl Search<'_> {
    fn values(&mut self, path: &Path, before: &Value, after: &Value) {
        match (before, after, self.lists) {
            (Value::Object(before), Value::Object(after), _) => self.objects(path, before, after),
            (Value::Array(before), Value::Array(after), Lists::ByElement(identity)) => {
                match (
                    Identified::of(before, identity),
                    Identified::of(after, identity),
                ) {
                    (Some(before), Some(after)) => self.identified(path, &before, &after),
                    _ => self.placed(path, before, after),
                }
            }
            _ if before != after => self.push(path.clone(), before.clone(), after.clone()),
            _ => {}
        }
    }

    fn push(&mut self, path: Path, before: Value, after: Value) {
        self.found.push(Difference {
            path,
            before,
            after,
        });
    }

    fn objects(&mut self, path: &Path, before: &Map<String, Value>, after: &Map<String, Value>) {
        let more = after.keys().filter(|name| !before.contains_key(*name));
        for name in before.keys().chain(more) {
            let of = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or_default();
            match (before.get(name), after.get(name)) {
                // A subtree on both sides is not copied.
                (Some(ours), Some(theirs)) => {
                    self.values(&path.to(Step::Field(name.clone())), ours, theirs);
                }
                _ => self.values(&path.to(Step::Field(name.clone())), &of(before), &of(after)),
            }
        }
    }

    fn identified(&mut self, path: &Path, before: &Identified<'_>, after: &Identified<'_>) {
        for (name, element) in before.elements() {
            let other = after.get(name).unwrap_or(&Value::Null);
            self.values(&path.to(Step::Element(name.into())), element, other);
        }
        let new = after
            .elements()
            .filter(|(name, _)| before.get(name).is_none());
        for (name, element) in new {
            self.values(&path.to(Step::Element(name.into())), &Value::Null, element);
        }
        let common = |all: &Identified<'_>, other: &Identified<'_>| -> Vec<Value> {
            let names = all.elements().map(|(name, _)| name);
            names
                .filter(|name| other.get(name).is_some())
                .map(Value::from)
                .collect()
        };
        let (was, is) = (common(before, after), common(after, before));
        if was != is {
            self.push(path.to(Step::Order), was.into(), is.into());
        }
    }

    fn placed(&mut self, path: &Path, before: &[Value], after: &[Value]) {
        let texts = |values: &[Value]| -> Vec<String> { values.iter().map(canonical).collect() };
        let (old_texts, new_texts) = (texts(before), texts(after));
        let at = |index| path.to(Step::Index(index));
        for change in capture_diff_slices(Algorithm::Myers, &old_texts, &new_texts) {
            if matches!(change, DiffOp::Equal { .. }) {
                continue;
            }
            let (old, new) = (change.old_range(), change.new_range());
            let both = old.len().min(new.len());
            for (old, new) in old.clone().zip(new.clone()) {
                self.values(&at(new), &before[old], &after[new]);
            }
            for index in old.skip(both) {
                self.values(&at(index), &before[index], &Value::Null);
            }
            for index in new.skip(both) {
                self.values(&at(index), &Value::Null, &after[index]);
            }
        }
    }
}

/// Equal values have equal texts, whatever the order of their fields.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields = fields.into_iter().map(|(name, value)| {
                format!("{}:{}", Value::from(name.as_str()), canonical(value))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(canonical).collect();
            format!("[{}]", values.join(","))
        }
        plain => plain.to_string(),
    }
}

/// A list whose elements all have names of their own.
struct Identified<'v> {
    names: Vec<String>,
    values: &'v [Value],
    places: HashMap<String, usize>,
}

impl<'v> Identified<'v> {
    fn of(values: &'v [Value], identity: &dyn Fn(&Value) -> Option<String>) -> Option<Self> {
        let names: Vec<String> = values.iter().map(identity).collect::<Option<_>>()?;
        let places: HashMap<String, usize> = names.iter().cloned().zip(0..).collect();
        (places.len() == names.len()).then_some(Self {
            names,
            values,
            places,
        })
    }

    fn elements(&self) -> impl Iterator<Item = (&str, &'v Value)> {
        self.names.iter().map(String::as_str).zip(self.values)
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.values.get(*self.places.get(name)?)
    }
}
