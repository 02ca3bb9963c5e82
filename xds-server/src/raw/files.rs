//! What the files of `--resources` hold: each file's last good content, whatever became of it since.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Serialize;
use tracing::error;

use super::{
    document::Strict,
    key::{Entry, Key, Source},
    problem::{PROBLEMS_MAX, Problem},
    request::{self, Holds},
    state::{Changes, RawState},
};
use crate::{
    compile::Encoder,
    mesh::{Outline, Position},
};

/// What a look into the folder finds: by name the text, or why it cannot be read.
pub type Look = BTreeMap<Arc<str>, Result<Arc<str>, String>>;

/// A problem of a file, or of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileProblem {
    /// The file's name; none when it is about the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What is wrong.
    #[serde(flatten)]
    pub problem: Problem,
}

impl std::fmt::Display for FileProblem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(formatter, "{file}: ")?;
        }
        write!(formatter, "{}", self.problem)
    }
}

type Entries = BTreeMap<Key, Arc<Entry>>;

/// One file.
#[derive(Default)]
struct File {
    /// As the folder had it last; none while it is not in this server's folder.
    seen: Option<Result<Arc<str>, String>>,
    /// The text that holds: the store has it.
    kept: Option<Arc<str>>,
    /// What that says.
    entries: Entries,
    /// What is wrong with what was read last.
    problems: Vec<Problem>,
    /// What was read last, if it is good and the store does not have it yet.
    next: Option<(Arc<str>, Entries)>,
}

/// All files, by name. A resource that several name is the first one's.
#[derive(Default)]
pub struct Files {
    files: BTreeMap<Arc<str>, File>,
    /// Names of files that are gone from the folder while the store still has them.
    leaving: BTreeSet<Arc<str>>,
    /// Resources that somebody else holds, with the file that names them too.
    shadowed: Vec<(Key, Arc<str>, Source)>,
    has_looked: bool,
}

impl Files {
    /// Takes a look into this server's folder. What holds does not change by that: the store has to have it
    /// first ([`Self::offers`], then [`Self::keep`]).
    pub fn look(&mut self, look: &Look, encoder: &Encoder) {
        // The first look decides about everything that was kept; later ones about what was seen here.
        let has_looked = std::mem::replace(&mut self.has_looked, true);
        let leaving = &mut self.leaving;
        self.files.retain(|name, file| {
            if look.contains_key(name) || (has_looked && file.seen.is_none()) {
                return true;
            }
            file.seen = None;
            file.next = None;
            file.problems.clear();
            if file.kept.is_some() {
                leaving.insert(Arc::clone(name));
            }
            file.kept.is_some()
        });
        for (name, found) in look {
            self.leaving.remove(name);
            let file = self.files.entry(Arc::clone(name)).or_default();
            if file.seen.as_ref() != Some(found) {
                file.read(name, found, encoder);
                file.seen = Some(found.clone());
            }
        }
    }

    /// Whether the folder was looked into.
    pub fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// What the store is to have: names with good texts, or gone.
    pub fn offers(&self) -> Vec<(&str, Option<&Arc<str>>)> {
        let gone = self.leaving.iter().map(|name| (&**name, None));
        let changed = self.files.iter().filter_map(|(name, file)| {
            let (text, _) = file.next.as_ref()?;
            Some((&**name, Some(text)))
        });
        gone.chain(changed).collect()
    }

    /// The store has this text of a file, or the file no longer: that holds.
    pub fn keep(&mut self, name: &Arc<str>, text: Option<&Arc<str>>, encoder: &Encoder) {
        let Some(text) = text else {
            self.leaving.remove(name);
            if let Some(file) = self.files.get_mut(name) {
                file.entries.clear();
                file.kept = None;
            }
            let is_nothing = |file: &File| file.seen.is_none() && file.kept.is_none();
            if self.files.get(name).is_some_and(is_nothing) {
                self.files.remove(name);
            }
            return;
        };
        let file = self.files.entry(Arc::clone(name)).or_default();
        let entries = match file.next.take_if(|next| next.0 == *text) {
            Some((_, entries)) => Ok(entries),
            None => read(name, text, &file.entries, encoder),
        };
        match entries {
            Ok(entries) => {
                file.entries = entries;
                file.kept = Some(Arc::clone(text));
            }
            // Good when it was kept. What an older or newer program would not take is left as it was.
            Err(problems) => error!(%name, problem = ?problems.first(), "a kept file is left out"),
        }
    }

    /// Nothing is kept any more; what was seen stays seen.
    pub fn forget_kept(&mut self) {
        self.leaving.clear();
        for file in self.files.values_mut() {
            file.kept = None;
        }
    }

    /// After [`Self::forget_kept`] and all that is kept: what was kept before and is not now holds no longer.
    pub fn drop_unkept(&mut self) {
        for file in self.files.values_mut() {
            if file.kept.is_none() {
                file.entries.clear();
            }
        }
        self.files
            .retain(|_, file| file.kept.is_some() || file.seen.is_some());
    }

    /// What has to change for `state` to hold what the files say. The API's resources stay.
    pub fn changes(&mut self, state: &RawState) -> Changes {
        let mut changes = Changes::new();
        let mut claimed: BTreeMap<&Key, &Arc<str>> = BTreeMap::new();
        let mut shadowed = Vec::new();
        for (name, file) in &self.files {
            for (key, entry) in &file.entries {
                let current = state.get(key);
                let holder = match (current.map(|current| &current.source), claimed.get(key)) {
                    (Some(Source::Api), _) => Some(Source::Api),
                    (_, Some(first)) => Some(Source::File(Arc::clone(first))),
                    (_, None) => None,
                };
                if let Some(holder) = holder {
                    shadowed.push((key.clone(), Arc::clone(name), holder));
                    continue;
                }
                claimed.insert(key, name);
                if !current.is_some_and(|current| current.is_same(entry)) {
                    changes.insert(key.clone(), Some(Arc::clone(entry)));
                }
            }
        }
        for (key, entry) in state.iter() {
            if matches!(entry.source, Source::File(_)) && !claimed.contains_key(key) {
                changes.insert(key.clone(), None);
            }
        }
        self.shadowed = shadowed;
        changes
    }

    /// The API's changes; where it lets go of a resource that a file names too, the file's comes out.
    pub fn uncovered(&mut self, mut changes: Changes) -> Changes {
        let files = &self.files;
        self.shadowed.retain(|(key, name, _)| {
            let entry = files.get(name).and_then(|file| file.entries.get(key));
            match (changes.get_mut(key), entry) {
                (Some(change @ None), Some(entry)) => {
                    *change = Some(Arc::clone(entry));
                    false
                }
                _ => true,
            }
        });
        changes
    }

    /// What is wrong with files, by name.
    pub fn problems(&self) -> Vec<FileProblem> {
        let of = |name: &Arc<str>, problem: Problem| FileProblem {
            file: Some(name.to_string()),
            problem,
        };
        let mut problems: Vec<FileProblem> = Vec::new();
        for (name, file) in &self.files {
            problems.extend(
                file.problems
                    .iter()
                    .map(|problem| of(name, problem.clone())),
            );
        }
        for (key, name, holder) in &self.shadowed {
            let by = match holder {
                Source::Api => "the API holds it: remove it there, or here".to_string(),
                Source::File(other) => format!("{other} holds it: remove one of the two"),
            };
            let problem = Problem {
                kind: Some(key.kind.url().into()),
                name: Some((&*key.name).into()),
                ..Problem::new(format!("not in force for {}: {by}", key.nodes))
            };
            problems.push(of(name, problem));
        }
        problems
    }
}

impl File {
    fn read(&mut self, name: &Arc<str>, found: &Result<Arc<str>, String>, encoder: &Encoder) {
        self.problems.clear();
        self.next = None;
        match found {
            Ok(text) if self.kept.as_ref() == Some(text) => {}
            Ok(text) => match read(name, text, &self.entries, encoder) {
                Ok(entries) => self.next = Some((Arc::clone(text), entries)),
                Err(problems) => self.problems = problems,
            },
            Err(error) => {
                self.problems = vec![Problem::new(format!("cannot be read: {error}"))];
            }
        }
    }
}

/// All that a file says. What did not change since `known` keeps its bytes.
fn read(
    name: &Arc<str>,
    text: &str,
    known: &Entries,
    encoder: &Encoder,
) -> Result<Entries, Vec<Problem>> {
    if text.trim().is_empty() {
        return Err(vec![Problem::new(
            "the file says nothing; remove it, or write {}",
        )]);
    }
    if name.ends_with(".json") {
        return read_json(name, text, known, encoder).map_err(|refused| refused.problems);
    }
    let json = json_of_yaml(text).map_err(|problem| vec![problem])?;
    read_json(name, &json, known, encoder).map_err(|refused| refused.placed_in(text))
}

/// Why a file is not taken.
struct Refused {
    problems: Vec<Problem>,
    /// Unless not even that is known.
    holds: Option<Holds>,
}

impl Refused {
    /// The problems, found in the YAML that was read as JSON: places in that are none of the file.
    fn placed_in(self, yaml: &str) -> Vec<Problem> {
        let outline = Outline::of(yaml);
        let holds = self.holds;
        let placed = |problem: Problem| {
            let field = problem.field.as_deref().unwrap_or_default();
            let path = match (holds, problem.index) {
                (Some(Holds::Call), Some(index)) if field.is_empty() => format!("set[{index}]"),
                (Some(Holds::Call), Some(index)) => format!("set[{index}].{field}"),
                _ => field.to_string(),
            };
            problem.at(outline.find(&path).unwrap_or(Position::BEGIN))
        };
        self.problems.into_iter().map(placed).collect()
    }
}

fn read_json(
    name: &Arc<str>,
    text: &str,
    known: &Entries,
    encoder: &Encoder,
) -> Result<Entries, Refused> {
    let (request, holds) = request::read_file(text, encoder).map_err(|problem| Refused {
        problems: vec![problem],
        holds: None,
    })?;
    let source = Source::File(Arc::clone(name));
    let mut entries = Entries::new();
    let mut problems = request.problems;
    for offer in request.set {
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
        let key = offer.as_ref().ok().map(|offer| offer.key(&request.nodes));
        let known = key.as_ref().and_then(|key| known.get(key));
        match offer.and_then(|offer| offer.entry(request.overrides, &source, known, encoder)) {
            Ok(entry) => _ = key.map(|key| entries.insert(key, entry)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return Ok(entries);
    }
    if holds == Holds::Resource {
        problems.iter_mut().for_each(|problem| problem.index = None);
    }
    Err(Refused {
        problems,
        holds: Some(holds),
    })
}

fn json_of_yaml(text: &str) -> Result<String, Problem> {
    // A snippet of the file could show a private key.
    let options = serde_saphyr::options! { with_snippet: false };
    let read = serde_saphyr::from_str_with_options(text, options);
    let Strict(value) = read.map_err(|error: serde_saphyr::Error| {
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        let problem = Problem::new(format!("not readable as YAML: {said}"));
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).max(1);
        match error.location() {
            Some(at) => problem.at(Position {
                line: count(at.line()),
                column: count(at.column()),
            }),
            None => problem,
        }
    })?;
    Ok(value.to_string())
}
