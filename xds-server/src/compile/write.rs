//! Protobuf JSON of our own drafts -> bytes, with no message in between. It writes what it is certain of; of
//! anything else it says so, and the library reads the draft, or refuses it and says where.

use std::{collections::BTreeSet, sync::Arc};

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use serde_json::{Map, Value};

use super::shapes::{Family, Field, Form, Kind, Place, Repeated, Shape, Shapes};

/// Not certain how this is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uncertain;

type Certain<T = ()> = Result<T, Uncertain>;

/// Bytes, and the clusters that are named in them.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) clusters: Box<[Arc<str>]>,
}

/// The message of a type URL that a body says.
///
/// # Errors
/// When it may be written in another way than this, or is no such message.
pub(super) fn write(shapes: &Shapes, url: &str, body: &Value) -> Certain<Written> {
    let family = shapes.family(url).ok_or(Uncertain)?;
    let mut writer = Writer {
        shapes,
        out: Vec::with_capacity(1024 + text_bytes(body)),
        clusters: BTreeSet::new(),
    };
    writer.message(&family, family.root(), body)?;
    Ok(Written {
        bytes: writer.out,
        clusters: writer.clusters.into_iter().map(Arc::from).collect(),
    })
}

/// Of all texts in a value: a long one is then put in without being moved on the way.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(text_bytes).sum(),
        Value::Object(members) => members.values().map(text_bytes).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

struct Writer<'v> {
    shapes: &'v Shapes,
    out: Vec<u8>,
    clusters: BTreeSet<&'v str>,
}

impl<'v> Writer<'v> {
    fn message(&mut self, family: &Family, shape: &Shape, value: &'v Value) -> Certain {
        match shape.form {
            Form::Object => {
                let members = value.as_object().ok_or(Uncertain)?;
                self.fields(family, shape, members, None)
            }
            Form::Any => self.any(value),
            Form::Duration => self.duration(value.as_str().ok_or(Uncertain)?),
            Form::Wrapper => {
                let field = shape.field("value").ok_or(Uncertain)?;
                self.single(family, shape, field, value)
            }
            Form::Struct => self.map_of_values(value.as_object().ok_or(Uncertain)?),
            Form::Other => Err(Uncertain),
        }
    }

    fn fields(
        &mut self,
        family: &Family,
        shape: &Shape,
        members: &'v Map<String, Value>,
        except: Option<&str>,
    ) -> Certain {
        let mut chosen = 0_u64;
        for (name, value) in members {
            if except == Some(name.as_str()) {
                continue;
            }
            let field = shape.field(name).ok_or(Uncertain)?;
            if let Some(oneof) = field.oneof {
                let bit = 1_u64.checked_shl(oneof).ok_or(Uncertain)?;
                if chosen & bit != 0 {
                    return Err(Uncertain);
                }
                chosen |= bit;
            }
            match (field.repeated, value) {
                (_, Value::Null) => return Err(Uncertain),
                (Repeated::No, value) => self.single(family, shape, field, value)?,
                (Repeated::OneByOne, Value::Array(values)) => {
                    for value in values {
                        self.element(family, field, value)?;
                    }
                }
                (Repeated::Packed, Value::Array(values)) if !values.is_empty() => {
                    self.delimited(field.number, |writer| {
                        let mut values = values.iter();
                        values.try_for_each(|value| writer.scalar(&field.kind, value))
                    })?;
                }
                (Repeated::Packed, Value::Array(_)) => {}
                (Repeated::Map, Value::Object(entries)) => self.map(family, field, entries)?,
                _ => return Err(Uncertain),
            }
        }
        Ok(())
    }

    /// A field that is there once.
    fn single(
        &mut self,
        family: &Family,
        shape: &Shape,
        field: &Field,
        value: &'v Value,
    ) -> Certain {
        if let Value::String(text) = value
            && matches!(field.kind, Kind::String)
        {
            let names =
                field.names_cluster || (shape.is_weight && field.number == CLUSTER_WEIGHT_NAME);
            if names && !text.is_empty() {
                self.clusters.insert(text);
            }
        }
        if !field.has_presence && is_default(&field.kind, value) {
            return Ok(());
        }
        self.element(family, field, value)
    }

    /// One value with its key.
    fn element(&mut self, family: &Family, field: &Field, value: &'v Value) -> Certain {
        match &field.kind {
            Kind::Message(place) => self.inner(family, field.number, *place, value),
            kind => {
                encode_key(field.number, wire_type(kind)?, &mut self.out);
                self.scalar(kind, value)
            }
        }
    }

    fn inner(&mut self, family: &Family, number: u32, place: Place, value: &'v Value) -> Certain {
        self.delimited(number, |writer| {
            writer.message(family, family.shape(place), value)
        })
    }

    fn map(&mut self, family: &Family, field: &Field, entries: &'v Map<String, Value>) -> Certain {
        let Kind::Message(place) = field.kind else {
            return Err(Uncertain);
        };
        let entry = family.shape(place);
        let key = entry.field("key").ok_or(Uncertain)?;
        let value = entry.field("value").ok_or(Uncertain)?;
        if !matches!(key.kind, Kind::String) {
            return Err(Uncertain);
        }
        for (name, one) in entries {
            self.delimited(field.number, |writer| {
                writer.text(1, name);
                writer.element(family, value, one)
            })?;
        }
        Ok(())
    }

    fn any(&mut self, value: &'v Value) -> Certain {
        const TYPE: &str = "@type";
        let members = value.as_object().ok_or(Uncertain)?;
        let url = members.get(TYPE).and_then(Value::as_str).ok_or(Uncertain)?;
        let family = self.shapes.family(url).ok_or(Uncertain)?;
        let shape = family.root();
        match shape.form {
            Form::Object => {}
            // A filter's configuration, which may have megabytes.
            Form::Wrapper => return self.wrapped(&family, shape, url, members),
            // The others have their JSON in a member of its own, too.
            _ => return Err(Uncertain),
        }
        self.text(1, url);
        // Nothing is not written.
        if members.len() == 1 {
            return Ok(());
        }
        self.delimited(2, |writer| {
            writer.fields(&family, shape, members, Some(TYPE))
        })
    }

    /// A `google.protobuf.StringValue` and its like in an Any: its JSON is a member `value`.
    fn wrapped(
        &mut self,
        family: &Family,
        shape: &Shape,
        url: &str,
        members: &'v Map<String, Value>,
    ) -> Certain {
        const VALUE: &str = "value";
        let field = shape.field(VALUE).ok_or(Uncertain)?;
        let value = members.get(VALUE).ok_or(Uncertain)?;
        if members.len() != 2 || value.is_null() || is_default(&field.kind, value) {
            return Err(Uncertain);
        }
        self.text(1, url);
        self.delimited(2, |writer| writer.single(family, shape, field, value))
    }

    /// `google.protobuf.Struct`.
    fn map_of_values(&mut self, members: &'v Map<String, Value>) -> Certain {
        for (name, value) in members {
            self.delimited(1, |writer| {
                writer.text(1, name);
                writer.delimited(2, |writer| writer.value(value))
            })?;
        }
        Ok(())
    }

    /// `google.protobuf.Value`.
    fn value(&mut self, value: &'v Value) -> Certain {
        match value {
            Value::Null => {
                encode_key(1, WireType::Varint, &mut self.out);
                encode_varint(0, &mut self.out);
            }
            Value::Number(number) => {
                let number = number.as_f64().ok_or(Uncertain)?;
                encode_key(2, WireType::SixtyFourBit, &mut self.out);
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            Value::String(text) => self.text(3, text),
            Value::Bool(value) => {
                encode_key(4, WireType::Varint, &mut self.out);
                encode_varint(u64::from(*value), &mut self.out);
            }
            Value::Object(members) => {
                self.delimited(5, |writer| writer.map_of_values(members))?;
            }
            Value::Array(values) => self.delimited(6, |writer| {
                let mut values = values.iter();
                values.try_for_each(|value| writer.delimited(1, |writer| writer.value(value)))
            })?,
        }
        Ok(())
    }

    fn duration(&mut self, text: &str) -> Certain {
        let text = text.strip_suffix('s').ok_or(Uncertain)?;
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if seconds.is_empty() || !is_number(seconds) || !is_number(fraction) || fraction.len() > 9 {
            return Err(Uncertain);
        }
        let seconds: u64 = seconds.parse().map_err(|_| Uncertain)?;
        let nanos: u64 = format!("{fraction:0<9}").parse().map_err(|_| Uncertain)?;
        for (number, value) in [(1, seconds), (2, nanos)] {
            if value > 0 {
                encode_key(number, WireType::Varint, &mut self.out);
                encode_varint(value, &mut self.out);
            }
        }
        Ok(())
    }

    /// What is no message, without its key.
    fn scalar(&mut self, kind: &Kind, value: &Value) -> Certain {
        match (kind, value) {
            (Kind::Bool, Value::Bool(value)) => encode_varint(u64::from(*value), &mut self.out),
            (Kind::String, Value::String(text)) => {
                encode_varint(text.len() as u64, &mut self.out);
                self.out.extend_from_slice(text.as_bytes());
            }
            (Kind::Enum(names), Value::String(name)) => {
                let number = names.get(name.as_str()).ok_or(Uncertain)?;
                encode_varint(i64::from(*number).cast_unsigned(), &mut self.out);
            }
            (Kind::Unsigned { max }, Value::Number(number)) => {
                let number = number.as_u64().filter(|number| number <= max);
                encode_varint(number.ok_or(Uncertain)?, &mut self.out);
            }
            (Kind::Signed, Value::Number(number)) => {
                // None of ours is near the end of the smaller one.
                let number = number
                    .as_i64()
                    .and_then(|number| i32::try_from(number).ok());
                let number = i64::from(number.ok_or(Uncertain)?);
                encode_varint(number.cast_unsigned(), &mut self.out);
            }
            (Kind::Double, Value::Number(number)) => {
                let number = number.as_f64().ok_or(Uncertain)?;
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            _ => return Err(Uncertain),
        }
        Ok(())
    }

    fn text(&mut self, number: u32, text: &str) {
        encode_key(number, WireType::LengthDelimited, &mut self.out);
        encode_varint(text.len() as u64, &mut self.out);
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A field whose length is known when it is written: nearly all are shorter than 128 bytes, for whose
    /// length one byte is left.
    fn delimited(&mut self, number: u32, write: impl FnOnce(&mut Self) -> Certain) -> Certain {
        encode_key(number, WireType::LengthDelimited, &mut self.out);
        let at = self.out.len();
        self.out.push(0);
        write(self)?;
        let length = (self.out.len() - at - 1) as u64;
        let spare = encoded_len_varint(length) - 1;
        if spare > 0 {
            let end = self.out.len();
            self.out.resize(end + spare, 0);
            self.out.copy_within(at + 1..end, at + 1 + spare);
        }
        let mut place = &mut self.out[at..=at + spare];
        encode_varint(length, &mut place);
        Ok(())
    }
}

/// `envoy.config.route.v3.WeightedCluster.ClusterWeight.name`.
const CLUSTER_WEIGHT_NAME: u32 = 1;

fn wire_type(kind: &Kind) -> Certain<WireType> {
    Ok(match kind {
        Kind::Bool | Kind::Signed | Kind::Unsigned { .. } | Kind::Enum(_) => WireType::Varint,
        Kind::String => WireType::LengthDelimited,
        Kind::Double => WireType::SixtyFourBit,
        Kind::Float | Kind::Message(_) | Kind::Other => return Err(Uncertain),
    })
}

/// What an absent field is.
fn is_default(kind: &Kind, value: &Value) -> bool {
    match (kind, value) {
        (Kind::Bool, Value::Bool(value)) => !value,
        (Kind::String, Value::String(text)) => text.is_empty(),
        (Kind::Signed | Kind::Unsigned { .. } | Kind::Double, Value::Number(number)) => {
            number.as_f64() == Some(0.0)
        }
        (Kind::Enum(names), Value::String(name)) => names.get(name.as_str()) == Some(&0),
        _ => false,
    }
}
