//! What a draft needs of Envoy's descriptors, laid out for writing: fields found by the name that JSON has,
//! messages by number. A descriptor of the library counts its references at every step; a mesh is tens of
//! thousands of resources, written on all processors.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor,
};

/// All messages that one message may hold, itself first.
#[derive(Debug)]
pub(super) struct Family {
    shapes: Vec<Shape>,
}

/// The place of a message in its family.
pub(super) type Place = usize;

#[derive(Debug)]
pub(super) struct Shape {
    pub(super) form: Form,
    /// One choice among clusters: its name is a cluster's.
    pub(super) is_weight: bool,
    fields: HashMap<Box<str>, Field>,
}

/// How a message is written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As an object of its fields.
    Object,
    /// As an object of another message's fields, with its type.
    Any,
    /// `1.5s`.
    Duration,
    /// As the value in its only field.
    Wrapper,
    Struct,
    /// Some other way.
    Other,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: Repeated,
    /// Written although it is what an absent one is.
    pub(super) has_presence: bool,
    /// At most one of those with the same number may be given.
    pub(super) oneof: Option<u32>,
    /// What it says is a cluster's name.
    pub(super) names_cluster: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeated {
    No,
    OneByOne,
    Packed,
    Map,
}

#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    String,
    /// `int32`, `int64`.
    Signed,
    /// `uint32`, `uint64`.
    Unsigned {
        max: u64,
    },
    Double,
    Float,
    Enum(HashMap<Box<str>, i32>),
    Message(Place),
    Other,
}

impl Family {
    pub(super) fn root(&self) -> &Shape {
        &self.shapes[0]
    }

    pub(super) fn shape(&self, place: Place) -> &Shape {
        &self.shapes[place]
    }

    fn of(root: &MessageDescriptor) -> Self {
        let mut found = vec![root.clone()];
        let mut places = HashMap::from([(root.full_name().to_string(), 0)]);
        let mut shapes = Vec::new();
        while let Some(message) = found.get(shapes.len()).cloned() {
            let mut place = |inner: MessageDescriptor| {
                let next = places.len();
                *places
                    .entry(inner.full_name().to_string())
                    .or_insert_with(|| {
                        found.push(inner);
                        next
                    })
            };
            shapes.push(Shape::of(&message, &mut place));
        }
        Self { shapes }
    }
}

impl Shape {
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }

    fn of(message: &MessageDescriptor, place: &mut impl FnMut(MessageDescriptor) -> Place) -> Self {
        let form = Form::of(message);
        // What is not written field by field needs none.
        let has_fields = matches!(form, Form::Object | Form::Wrapper);
        let fields = message.fields().filter(|_| has_fields);
        let fields = fields.map(|field| (field.name().into(), Field::of(&field, place)));
        Self {
            form,
            is_weight: message.name() == "ClusterWeight",
            fields: fields.collect(),
        }
    }
}

impl Form {
    fn of(message: &MessageDescriptor) -> Self {
        let Some(name) = message.full_name().strip_prefix("google.protobuf.") else {
            return Self::Object;
        };
        match name {
            "Any" => Self::Any,
            "Duration" => Self::Duration,
            "Struct" => Self::Struct,
            "BoolValue" | "StringValue" | "DoubleValue" | "FloatValue" | "Int32Value"
            | "Int64Value" | "UInt32Value" | "UInt64Value" => Self::Wrapper,
            _ => Self::Other,
        }
    }
}

impl Field {
    fn of(field: &FieldDescriptor, place: &mut impl FnMut(MessageDescriptor) -> Place) -> Self {
        let repeated = match field.cardinality() {
            _ if field.is_map() => Repeated::Map,
            Cardinality::Repeated if field.is_packed() => Repeated::Packed,
            Cardinality::Repeated => Repeated::OneByOne,
            Cardinality::Optional | Cardinality::Required => Repeated::No,
        };
        // A synthetic oneof holds one field: nothing excludes it.
        let oneof = field
            .containing_oneof()
            .filter(|oneof| !oneof.is_synthetic());
        let oneof = oneof.and_then(|oneof| oneof.path().last().copied());
        Self {
            number: field.number(),
            kind: Kind::of(field, place),
            repeated,
            has_presence: field.supports_presence(),
            oneof: oneof.and_then(|number| u32::try_from(number).ok()),
            names_cluster: matches!(field.name(), "cluster" | "cluster_name"),
        }
    }
}

impl Kind {
    fn of(field: &FieldDescriptor, place: &mut impl FnMut(MessageDescriptor) -> Place) -> Self {
        use prost_reflect::Kind as Theirs;
        match field.kind() {
            Theirs::Bool => Self::Bool,
            Theirs::String => Self::String,
            Theirs::Int32 | Theirs::Int64 => Self::Signed,
            Theirs::Uint32 => Self::Unsigned {
                max: u32::MAX.into(),
            },
            Theirs::Uint64 => Self::Unsigned { max: u64::MAX },
            Theirs::Double => Self::Double,
            Theirs::Float => Self::Float,
            Theirs::Enum(descriptor) => Self::Enum(names(&descriptor)),
            Theirs::Message(inner) => Self::Message(place(inner)),
            _ => Self::Other,
        }
    }
}

fn names(descriptor: &EnumDescriptor) -> HashMap<Box<str>, i32> {
    let values = descriptor.values();
    values
        .map(|value| (value.name().into(), value.number()))
        .collect()
}

/// Families by their first message, laid out when they are first asked for.
#[derive(Debug)]
pub(super) struct Shapes {
    pool: DescriptorPool,
    known: RwLock<HashMap<Box<str>, Arc<Family>>>,
}

impl Shapes {
    pub(super) fn new(pool: DescriptorPool) -> Self {
        Self {
            pool,
            known: RwLock::default(),
        }
    }

    /// That of a type URL.
    pub(super) fn family(&self, url: &str) -> Option<Arc<Family>> {
        let name = url.rsplit('/').next()?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = known.get(name) {
            return Some(Arc::clone(family));
        }
        drop(known);
        let family = Arc::new(Family::of(&self.pool.get_message_by_name(name)?));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.into(), Arc::clone(&family));
        Some(family)
    }
}
