//! The mesh as it is written, in one or several files: each a part, together one tree that is read as
//! if it stood in one file.

mod nothing;
#[cfg(test)]
mod tests;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use policy::reader::{NO_VALUE, Problem, Problems, Reader, joined};
use serde_json::{Map, Value};

use super::{
    Defaults, Mesh, MeshProblem, Place,
    check::{Labels, check},
    outline::{Outline, after_key},
    place::Position,
    read::read_fields,
    yaml,
};

/// The field that names further files.
pub(super) const INCLUDE: &str = "include";

/// A file larger than this is refused, and so are all files of a mesh together, wherever they come from.
pub const FILES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The same in words.
pub const FILES_TOO_LARGE: &str = "the files of a mesh hold more than 16 MiB";
/// Files of one mesh.
pub const FILES_MAX: usize = 1_000;

/// One file of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshFile {
    /// As problems name it.
    pub name: String,
    /// What it holds.
    pub text: Arc<str>,
}

/// All files of a mesh, read as YAML.
pub struct Document<'f> {
    files: &'f [MeshFile],
    outlines: Vec<OnceCell<Outline>>,
    tree: Value,
    /// Of each top-level field: whose it is.
    owners: BTreeMap<String, Owner>,
    problems: Vec<MeshProblem>,
    is_whole: bool,
}

/// Which files, by their index, say what of a field.
enum Owner {
    /// All of it.
    File(usize),
    /// Its keys: the first file that has the field, and the file of each key.
    Keys(usize, BTreeMap<String, usize>),
    /// Its elements: from which index on they are a file's.
    Elements(Vec<(usize, usize)>),
}

impl<'f> Document<'f> {
    /// Reads the files and puts them together. Maps of the same field become one, lists follow each
    /// other; what is defined twice is a problem.
    ///
    /// `unread` are problems of files that could not be had, and that may have held names.
    pub fn new(files: &'f [MeshFile], unread: &[MeshProblem]) -> Self {
        let mut document = Self {
            files,
            outlines: files.iter().map(|_| OnceCell::new()).collect(),
            tree: Value::Null,
            owners: BTreeMap::new(),
            problems: unread.to_vec(),
            is_whole: unread.is_empty(),
        };
        let mut fields = Map::new();
        for (index, file) in files.iter().enumerate() {
            let parsed = yaml::parse(&file.text);
            for (at, problem) in parsed.problems {
                let place = Some(Place::new(&file.name, at));
                document.problems.push(MeshProblem { place, problem });
            }
            match parsed.tree {
                Some(Value::Object(part)) => document.add(index, part, &mut fields),
                _ => document.is_whole = false,
            }
        }
        document.tree = Value::Object(fields);
        for problem in nothing::problems(&document.tree) {
            let placed = document.placed(problem);
            document.problems.push(placed);
        }
        document
    }

    /// Adds problems of files that hide nothing of what they say, such as a circle of includes.
    #[must_use]
    pub fn with_problems(mut self, problems: &[MeshProblem]) -> Self {
        self.problems.extend_from_slice(problems);
        self
    }

    /// What all files say together; of what is defined twice, the first.
    pub fn tree(&self) -> &Value {
        &self.tree
    }

    /// What is wrong with the texts, whatever they are about.
    pub fn problems(&self) -> &[MeshProblem] {
        &self.problems
    }

    /// The mesh.
    ///
    /// # Errors
    /// Every problem of every file, each with its place, in the files' order.
    pub fn mesh(&self, defaults: &Defaults) -> Result<Mesh, Vec<MeshProblem>> {
        self.mesh_with(defaults, Labels::OfFile)
    }

    /// The mesh, whose versions may name these labels.
    ///
    /// # Errors
    /// As of [`Self::mesh`].
    pub fn mesh_with(
        &self,
        defaults: &Defaults,
        labels: Labels<'_>,
    ) -> Result<Mesh, Vec<MeshProblem>> {
        let mut found = self.problems.clone();
        let problems = Problems::new();
        let root = Reader::root(&self.tree, &problems);
        let mesh = read_fields(&root, defaults);
        // A file that is missing or no YAML hides names: what the others say of them would look wrong.
        if let Some(mesh) = mesh.as_ref().filter(|_| self.is_whole) {
            check(&root, mesh, labels);
        }
        let problems = problems.into_vec();
        // Whoever reads a field that has no value may know more of it: that there is no such field, say.
        let told: BTreeSet<&str> = problems
            .iter()
            .map(|problem| problem.path.as_str())
            .collect();
        found.retain(|MeshProblem { problem, .. }| {
            problem.message != NO_VALUE || !told.contains(problem.path.as_str())
        });
        match mesh {
            Some(mesh) if problems.is_empty() && found.is_empty() => return Ok(mesh),
            _ => found.extend(problems.into_iter().map(|problem| self.placed(problem))),
        }
        let order = |problem: &MeshProblem| {
            let place = problem.place.as_ref()?;
            let file = self.files.iter().position(|file| file.name == place.file);
            Some((file, place.line, place.column))
        };
        // What has no place is told first: it is about the environment, or about everything.
        found.sort_by_key(order);
        Err(found)
    }

    /// Where a path is written, or what would enclose it. None for what no file says.
    pub fn place(&self, path: &str) -> Option<Place> {
        let (field, rest) = self.top(path)?;
        let (file, local) = match self.owners.get(field)? {
            Owner::File(file) => (*file, path.to_string()),
            Owner::Keys(first, keys) => {
                let under = rest.strip_prefix('.').unwrap_or(rest);
                let owner = keys
                    .iter()
                    .filter_map(|(key, file)| Some((after_key(under, key)?.len(), *file)))
                    .min();
                (owner.map_or(*first, |(_, file)| file), path.to_string())
            }
            Owner::Elements(parts) => Self::local_element(parts, field, rest),
        };
        let at = self.outline(file).find(&local)?;
        Some(Place::new(&self.files.get(file)?.name, at))
    }

    /// A problem at its place.
    pub fn placed(&self, problem: Problem) -> MeshProblem {
        MeshProblem {
            place: self.place(&problem.path),
            problem,
        }
    }

    /// The top-level field that a path begins with, and what follows.
    fn top<'p>(&self, path: &'p str) -> Option<(&str, &'p str)> {
        let fields = self.owners.keys();
        let begins = |field| Some((after_key(path, field)?, field));
        let longest = fields.filter_map(|field: &String| begins(field));
        let (rest, field) = longest.min_by_key(|(rest, _)| rest.len())?;
        Some((field, rest))
    }

    /// `festivals[5]` of all is `festivals[2]` of its file, say.
    fn local_element(parts: &[(usize, usize)], field: &str, rest: &str) -> (usize, String) {
        let first = parts.first().map_or(0, |(_, file)| *file);
        let index = rest
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .and_then(|(index, behind)| Some((index.parse::<usize>().ok()?, behind)));
        let part = |index: usize| parts.iter().rev().find(move |(from, _)| *from <= index);
        match index.and_then(|(index, behind)| Some((index, behind, part(index)?))) {
            Some((index, behind, (from, file))) => {
                (*file, format!("{field}[{}]{behind}", index - from))
            }
            None => (first, field.to_string()),
        }
    }

    fn outline(&self, file: usize) -> &Outline {
        self.outlines[file].get_or_init(|| Outline::of(&self.files[file].text))
    }

    /// Adds what one file says. `include` is for who reads the files.
    fn add(&mut self, file: usize, part: Map<String, Value>, fields: &mut Map<String, Value>) {
        for (field, value) in part {
            if field == INCLUDE {
                self.check_include(file, &value);
                continue;
            }
            // An unknown one stays in the tree, to be refused with its name.
            if value.is_null()
                && let Some(problem) = nothing::problem(&field)
            {
                self.problems.push(self.in_file(file, problem));
                continue;
            }
            match (fields.get_mut(&field), value) {
                (None, value) => {
                    self.owners.insert(field.clone(), Owner::new(file, &value));
                    fields.insert(field, value);
                }
                (Some(Value::Object(all)), Value::Object(more)) => {
                    self.add_keys(file, &field, more, all);
                }
                (Some(Value::Array(all)), Value::Array(more)) => {
                    if let Some(Owner::Elements(parts)) = self.owners.get_mut(&field) {
                        parts.push((all.len(), file));
                    }
                    all.extend(more);
                }
                (Some(_), _) => self.defined_twice(file, &field),
            }
        }
    }

    fn add_keys(
        &mut self,
        file: usize,
        field: &str,
        more: Map<String, Value>,
        all: &mut Map<String, Value>,
    ) {
        for (key, value) in more {
            if all.contains_key(&key) {
                self.defined_twice(file, &joined(field, &key));
                continue;
            }
            if let Some(Owner::Keys(_, keys)) = self.owners.get_mut(field) {
                keys.insert(key.clone(), file);
            }
            all.insert(key, value);
        }
    }

    fn defined_twice(&mut self, file: usize, path: &str) {
        let first = self.place(path);
        let first = first.map_or_else(|| "another file".into(), |place| place.to_string());
        let at = self.outline(file).find(path).unwrap_or(Position::BEGIN);
        self.problems.push(MeshProblem {
            place: Some(Place::new(&self.files[file].name, at)),
            problem: Problem {
                path: path.into(),
                message: format!("is defined a second time; it is in {first} already"),
                hint: Some("keep one of them".into()),
            },
        });
    }

    fn check_include(&mut self, file: usize, value: &Value) {
        let problems = Problems::new();
        let reader = Reader::root(value, &problems);
        for name in reader.array() {
            let _ = name.string();
        }
        for problem in problems.into_vec() {
            let problem = Problem {
                path: format!("{INCLUDE}{}", problem.path),
                hint: Some("name files, such as include: [calendars/npci-peak.yaml]".into()),
                ..problem
            };
            self.problems.push(self.in_file(file, problem));
        }
    }

    /// A problem whose path is one of the file's own.
    fn in_file(&self, file: usize, problem: Problem) -> MeshProblem {
        let at = self.outline(file).find(&problem.path);
        MeshProblem {
            place: Some(Place::new(
                &self.files[file].name,
                at.unwrap_or(Position::BEGIN),
            )),
            problem,
        }
    }
}

impl Owner {
    fn new(file: usize, value: &Value) -> Self {
        match value {
            Value::Object(keys) => {
                Self::Keys(file, keys.keys().map(|key| (key.clone(), file)).collect())
            }
            Value::Array(_) => Self::Elements(vec![(0, file)]),
            _ => Self::File(file),
        }
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        formatter.debug_tuple("Document").field(&names).finish()
    }
}

/// The files that a text includes, in its order. Whatever is wrong with the list is told when the text is
/// read with all others.
pub fn includes(text: &str) -> Vec<String> {
    // Most files include nothing, and need not be read twice.
    if !text.contains(INCLUDE) {
        return Vec::new();
    }
    let tree = yaml::parse(text).tree;
    let list = tree.as_ref().and_then(|tree| tree.get(INCLUDE)?.as_array());
    let names = list.into_iter().flatten();
    names
        .filter_map(|name| name.as_str().map(str::to_string))
        .collect()
}

/// A problem of the `index`-th file that `file` includes.
pub fn include_problem(
    file: &MeshFile,
    index: usize,
    message: impl Into<String>,
    hint: Option<String>,
) -> MeshProblem {
    let path = format!("{INCLUDE}[{index}]");
    let at = Outline::of(&file.text).find(&path);
    MeshProblem {
        place: Some(Place::new(&file.name, at.unwrap_or(Position::BEGIN))),
        problem: Problem {
            path,
            message: message.into(),
            hint,
        },
    }
}
