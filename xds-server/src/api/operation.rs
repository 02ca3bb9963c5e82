//! What a call takes and what it gives, as the types of its handler tell: the description of a route cannot say
//! anything else than its code does.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

use axum::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// A call of the API, as it is described.
pub(super) struct Operation<'g> {
    /// What varies in its path, in order.
    pub(super) names: Vec<&'static str>,
    /// The most bytes of a body.
    pub(super) bytes_max: Option<usize>,
    /// Of what is sent.
    pub(super) takes: &'g mut SchemaGenerator,
    /// Of what is answered.
    pub(super) gives: &'g mut SchemaGenerator,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: BTreeMap<u16, Value>,
    refusals: BTreeSet<u16>,
}

/// Writes down what a handler's types say.
pub(super) type Describe = fn(&mut Operation<'_>);

/// Something that a handler takes of a call.
pub(super) trait Takes {
    fn tell(operation: &mut Operation<'_>);
}

/// Something that a handler answers with.
pub(super) trait Gives {
    fn tell(operation: &mut Operation<'_>);
}

/// A handler all of whose types say what they are; `A` are those that it takes.
pub(super) trait Described<A> {
    fn describe(operation: &mut Operation<'_>);
}

macro_rules! described {
    ($($taken:ident),*) => {
        impl<F, R, $($taken),*> Described<($($taken,)*)> for F
        where
            F: FnOnce($($taken),*) -> R,
            R: Future,
            R::Output: Gives,
            $($taken: Takes,)*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($taken::tell(operation);)*
                <R::Output as Gives>::tell(operation);
            }
        }
    };
}

described!();
described!(A);
described!(A, B);
described!(A, B, C);
described!(A, B, C, D);
described!(A, B, C, D, E);

impl<'g> Operation<'g> {
    pub(super) fn new(
        path: &'static str,
        bytes_max: Option<usize>,
        takes: &'g mut SchemaGenerator,
        gives: &'g mut SchemaGenerator,
    ) -> Self {
        let names = path.split('{').skip(1);
        Self {
            names: names.filter_map(|rest| rest.split('}').next()).collect(),
            bytes_max,
            takes,
            gives,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            refusals: BTreeSet::new(),
        }
    }

    /// A parameter that stands `place` (`path`, `query`, `header`).
    pub(super) fn parameter(&mut self, place: &str, name: &str, required: bool, schema: Schema) {
        let mut schema = schema.to_value();
        let said = schema
            .as_object_mut()
            .and_then(|schema| schema.shift_remove("description"));
        let mut parameter =
            json!({"name": name, "in": place, "required": required, "schema": schema});
        if let Some(said) = said {
            parameter["description"] = said;
        }
        self.parameters.push(parameter);
    }

    /// The fields of a query.
    pub(super) fn query<T: JsonSchema>(&mut self) {
        let schema = T::json_schema(self.takes);
        let required = schema
            .get("required")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let fields = schema.get("properties").and_then(Value::as_object).cloned();
        for (name, field) in fields.unwrap_or_default() {
            let is_required = required.iter().any(|one| *one == *name);
            let schema = Schema::try_from(without_null(field)).unwrap_or_default();
            self.parameter("query", &name, is_required, schema);
        }
        self.may_refuse(&[StatusCode::BAD_REQUEST]);
    }

    /// A parameter that was told already, to be told more exactly.
    pub(super) fn parameter_mut(&mut self, name: &str) -> Option<&mut Value> {
        let mut known = self.parameters.iter_mut();
        known.find(|known| known["name"] == name)
    }

    /// A parameter that was told already is not taken here.
    pub(super) fn forget(&mut self, name: &str) {
        self.parameters.retain(|known| known["name"] != name);
    }

    /// The body, by its media types.
    pub(super) fn body(&mut self, required: bool, content: &Value) {
        let mut body = json!({"required": required, "content": content});
        if let Some(bytes) = self.bytes_max {
            body["description"] = json!(format!("At most {}.", super::asked::size(bytes)));
        }
        self.body = Some(body);
        self.may_refuse(&[
            StatusCode::BAD_REQUEST,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ]);
    }

    /// An answer with a body, unless `content` is null.
    pub(super) fn answer(&mut self, status: StatusCode, said: &str, content: Value) {
        let mut answer = json!({"description": said});
        if !content.is_null() {
            answer["content"] = content;
        }
        self.answers.insert(status.as_u16(), answer);
    }

    /// A header of an answer that was told already.
    pub(super) fn header(&mut self, status: StatusCode, name: &str, said: &str) {
        if let Some(answer) = self.answers.get_mut(&status.as_u16()) {
            answer["headers"][name] = json!({"description": said, "schema": {"type": "string"}});
        }
    }

    /// Statuses with which it may be refused.
    pub(super) fn may_refuse(&mut self, statuses: &[StatusCode]) {
        self.refusals
            .extend(statuses.iter().map(StatusCode::as_u16));
    }

    /// As OpenAPI has it.
    pub(super) fn into_value(self) -> Map<String, Value> {
        let mut answers = Map::new();
        for (status, answer) in self.answers {
            answers.insert(status.to_string(), answer);
        }
        for status in self.refusals {
            let refusal = json!({"$ref": format!("#/components/responses/{}", name_of(status))});
            answers.insert(status.to_string(), refusal);
        }
        let other = json!({"$ref": "#/components/responses/Problem"});
        answers.insert("default".into(), other);
        let mut told = Map::new();
        if !self.parameters.is_empty() {
            told.insert("parameters".into(), self.parameters.into());
        }
        told.extend(self.body.map(|body| ("requestBody".to_string(), body)));
        told.insert("responses".into(), answers.into());
        told
    }
}

/// What the answers of a status are called.
pub(super) fn name_of(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok();
    let reason = reason.and_then(|status| status.canonical_reason());
    reason.unwrap_or("Problem").replace([' ', '-'], "")
}

/// In a query what is not given is not there: it is never null.
fn without_null(mut field: Value) -> Value {
    if let Some(kinds) = field["type"].as_array_mut() {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            field["type"] = only.clone();
        }
    }
    if let Some(either) = field["anyOf"].as_array() {
        let mut some = either.iter().filter(|one| one["type"] != "null");
        if let (Some(Value::Object(only)), None) = (some.next().cloned(), some.next())
            && let Some(fields) = field.as_object_mut()
        {
            fields.shift_remove("anyOf");
            fields.extend(only);
        }
    }
    if let Some(fields) = field.as_object_mut() {
        if fields.get("default").is_some_and(Value::is_null) {
            fields.shift_remove("default");
        }
        // Indexing made them.
        fields.retain(|_, value| !value.is_null());
    }
    field
}
