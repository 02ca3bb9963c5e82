//! Holds calls and their answers against the description of the API.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use harness::http::Response;
use jsonschema::Validator;
use serde_json::{Value, json};

/// A description, and what of it was seen.
pub struct Judge {
    pub document: Value,
    /// The same, in which nothing that is not described may be in an answer.
    strict: Value,
    /// Operations with the statuses that were seen of them.
    pub seen: BTreeMap<String, BTreeSet<u16>>,
}

/// Methods of a path.
const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

impl Judge {
    pub fn new(document: Value) -> Self {
        let mut strict = document.clone();
        if let Some(schemas) = strict["components"]["schemas"].as_object_mut() {
            // What an Envoy takes has more fields than are told here.
            let ours = schemas
                .iter_mut()
                .filter(|(name, _)| *name != "EnvoyResource");
            ours.for_each(|(_, schema)| forbid_more(schema));
        }
        Self {
            document,
            strict,
            seen: BTreeMap::new(),
        }
    }

    /// All operations: method, path, and what is told of it.
    pub fn operations(&self) -> Result<Vec<(String, String, &Value)>> {
        let paths = self.document["paths"].as_object().context("no paths")?;
        let of = |(path, item): (&String, &'_ Value)| {
            let item = item.as_object().into_iter().flatten();
            let known = item.filter(|(method, _)| METHODS.contains(&method.as_str()));
            let all = known.map(|(method, _)| method.to_uppercase());
            let all: Vec<(String, String)> = all.map(|method| (method, path.clone())).collect();
            all
        };
        let names: Vec<(String, String)> = paths.iter().flat_map(of).collect();
        let told = |(method, path): (String, String)| {
            let operation = &self.document["paths"][&path][method.to_lowercase()];
            (method, path, operation)
        };
        Ok(names.into_iter().map(told).collect())
    }

    /// The path of the document that a called one is of.
    fn template(&self, method: &str, called: &str) -> Result<String> {
        let called = called.split('?').next().unwrap_or_default();
        let fits = |template: &str| {
            let (all, given) = (template.split('/'), called.split('/'));
            template.split('/').count() == called.split('/').count()
                && all
                    .zip(given)
                    .all(|(all, given)| all.starts_with('{') || all == given)
        };
        let mut found: Vec<String> = Vec::new();
        for (known, template, _) in self.operations()? {
            if known == method && fits(&template) {
                found.push(template);
            }
        }
        // What is said by name counts before what varies.
        found.sort_by_key(|template| template.matches('{').count());
        found
            .into_iter()
            .next()
            .with_context(|| format!("{method} {called} is not described"))
    }

    /// What is wrong with an answer.
    pub fn judge(&mut self, method: &str, called: &str, answer: &Response) -> Result<()> {
        let template = self.template(method, called)?;
        let name = format!("{method} {template}");
        let operation = &self.document["paths"][&template][method.to_lowercase()];
        let status = answer.status.to_string();
        let mut told = &operation["responses"][&status];
        ensure!(told.is_object(), "{name}: {status} is not described");
        if let Some(reference) = told["$ref"].as_str() {
            told = self.at(reference)?;
        }
        for (header, _) in told["headers"].as_object().into_iter().flatten() {
            let is_there = answer.header(&header.to_lowercase()).is_some();
            // A tag is of what registered; nothing else may be without.
            ensure!(
                is_there || header == "ETag",
                "{name}: {status} without {header}"
            );
        }
        self.body(told, answer)
            .with_context(|| format!("{name}: {status}"))?;
        self.seen.entry(name).or_default().insert(answer.status);
        Ok(())
    }

    fn body(&self, told: &Value, answer: &Response) -> Result<()> {
        let Some(content) = told["content"].as_object() else {
            ensure!(answer.body.is_empty(), "a body that is not described");
            return Ok(());
        };
        let kind = String::from_utf8_lossy(answer.header("content-type").context("no type")?);
        let media = content.get(&*kind).with_context(|| {
            let known: Vec<&String> = content.keys().collect();
            format!("content-type {kind} is none of {known:?}")
        })?;
        if !kind.ends_with("json") || media["schema"].is_null() {
            return Ok(());
        }
        fits(&self.validator(&media["schema"])?, &answer.json()?)
    }

    /// What is wrong with a body that is sent.
    pub fn judge_sent(&self, method: &str, called: &str, body: &Value) -> Result<()> {
        let template = self.template(method, called)?;
        let operation = &self.document["paths"][&template][method.to_lowercase()];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        ensure!(!schema.is_null(), "{method} {template} takes no JSON");
        fits(&self.validator(schema)?, body)
    }

    fn validator(&self, schema: &Value) -> Result<Validator> {
        let mut whole = json!({"allOf": [schema]});
        whole["components"] = self.strict["components"].clone();
        jsonschema::draft202012::new(&whole).map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn at(&self, reference: &str) -> Result<&Value> {
        let pointer = reference.strip_prefix('#').context("another document")?;
        self.document
            .pointer(pointer)
            .with_context(|| format!("{reference} leads nowhere"))
    }
}

fn fits(validator: &Validator, value: &Value) -> Result<()> {
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    match errors.is_empty() {
        true => Ok(()),
        false => bail!("{errors:#?}\n{value:#}"),
    }
}

/// Objects hold what is described, and nothing else.
fn forbid_more(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_closed = fields.contains_key("additionalProperties");
            // Parts that are said elsewhere count too.
            let is_whole = !["allOf", "anyOf", "oneOf", "$ref"]
                .iter()
                .any(|part| fields.contains_key(*part));
            if fields.contains_key("properties") && !is_closed {
                let word = if is_whole {
                    "additionalProperties"
                } else {
                    "unevaluatedProperties"
                };
                fields.insert(word.into(), json!(false));
            }
            for (name, value) in fields.iter_mut() {
                if name == "properties" {
                    // Their names are not ours.
                    let all = value.as_object_mut().into_iter().flatten();
                    all.for_each(|(_, value)| forbid_more(value));
                } else if !["anyOf", "allOf"].contains(&name.as_str()) {
                    forbid_more(value);
                } else {
                    // A part of a whole may be beside others.
                    let parts = value.as_array_mut().into_iter().flatten();
                    parts.for_each(forbid_more_below);
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(forbid_more),
        _ => {}
    }
}

fn forbid_more_below(schema: &mut Value) {
    let properties = schema.get_mut("properties");
    if let Some(properties) = properties.and_then(Value::as_object_mut) {
        properties
            .iter_mut()
            .for_each(|(_, value)| forbid_more(value));
    }
}
