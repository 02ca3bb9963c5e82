//! The files of a mesh on disk: one file or a folder's, and all that they include.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use policy::reader::Problem;

use crate::mesh::{
    Document, FILES_BYTES_MAX, FILES_MAX, FILES_TOO_LARGE, MeshFile, MeshProblem, Place,
    include_problem, includes,
};

/// A file larger than this is refused unread, and so are all files together.
const BYTES_MAX: u64 = FILES_BYTES_MAX as u64;
/// What a folder's files of the mesh are called.
const ENDINGS: [&str; 2] = [".yaml", ".yml"];

/// What is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Each file behind those that it includes.
    pub files: Vec<MeshFile>,
    /// Files that cannot be had.
    pub problems: Vec<MeshProblem>,
    /// Files that include each other. All of them are there.
    pub cycles: Vec<MeshProblem>,
    /// Where a change would be seen.
    pub folders: BTreeSet<PathBuf>,
}

/// Reads the files of a mesh, again and again.
#[derive(Debug)]
pub struct Loader {
    path: PathBuf,
    /// What each file included when it was read last: a large one need not be parsed for that again.
    known: BTreeMap<PathBuf, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    text: Arc<str>,
    includes: Arc<[String]>,
}

/// A file, whatever paths lead to it.
type Identity = (u64, u64);

/// One look.
struct Look<'l> {
    before: &'l BTreeMap<PathBuf, Known>,
    known: BTreeMap<PathBuf, Known>,
    loaded: Loaded,
    /// Files that are there already.
    seen: BTreeSet<Identity>,
    /// From the first file to the one that is being read.
    chain: Vec<(Identity, String)>,
    bytes: u64,
}

/// Why a file cannot be had.
enum Failure {
    Unreadable(String),
    /// With the files before it.
    TooLarge,
    /// It includes itself: the names from itself to itself.
    Cycle(String),
    /// Where the first byte stands that is none of UTF-8.
    NotText(Place),
}

impl Loaded {
    /// What the files say together.
    pub fn document(&self) -> Document<'_> {
        Document::new(&self.files, &self.problems).with_problems(&self.cycles)
    }
}

impl Loader {
    /// Of a file or a folder.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            known: BTreeMap::new(),
        }
    }

    /// What is on disk now.
    pub fn look(&mut self) -> Loaded {
        let mut look = Look {
            before: &self.known,
            known: BTreeMap::new(),
            loaded: Loaded {
                files: Vec::new(),
                problems: Vec::new(),
                cycles: Vec::new(),
                folders: BTreeSet::new(),
            },
            seen: BTreeSet::new(),
            chain: Vec::new(),
            bytes: 0,
        };
        look.root(&self.path);
        let Look { known, loaded, .. } = look;
        self.known = known;
        loaded
    }
}

impl Look<'_> {
    fn root(&mut self, path: &Path) {
        self.watch(path);
        if !path.is_dir() {
            if let Err(failure) = self.file(path) {
                let hint = "name a readable YAML file, or a folder of them";
                self.refuse(path, failure, Some(hint.into()));
            }
            return;
        }
        self.loaded.folders.insert(path.to_path_buf());
        match files_of(path) {
            Ok(files) if files.is_empty() => {
                let empty = Failure::Unreadable("the folder has no *.yaml or *.yml file".into());
                self.refuse(
                    path,
                    empty,
                    Some("write {} into one for an empty mesh".into()),
                );
            }
            Ok(files) => {
                for file in files {
                    if let Err(failure) = self.file(&file) {
                        self.refuse(&file, failure, None);
                    }
                }
            }
            Err(error) => {
                self.refuse(path, Failure::Unreadable(cannot_be_read(&error)), None);
            }
        }
    }

    /// Reads a file and what it includes, unless it is there already.
    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        self.watch(path);
        let unreadable = |error: io::Error| Failure::Unreadable(cannot_be_read(&error));
        let metadata = fs::metadata(path).map_err(unreadable)?;
        let identity = (metadata.dev(), metadata.ino());
        let name = path.display().to_string();
        if let Some(begin) = self.chain.iter().position(|(file, _)| *file == identity) {
            let names = self.chain[begin..].iter().map(|(_, name)| name.as_str());
            let cycle: Vec<&str> = names.chain([name.as_str()]).collect();
            return Err(Failure::Cycle(cycle.join(" -> ")));
        }
        if !self.seen.insert(identity) {
            return Ok(());
        }
        if self.seen.len() > FILES_MAX {
            let message = format!("a mesh has at most {FILES_MAX} files");
            return Err(Failure::Unreadable(message));
        }
        let text = self.text(path, &metadata)?;
        let file = MeshFile { name, text };
        self.chain.push((identity, file.name.clone()));
        self.includes(path, &file);
        self.chain.pop();
        self.loaded.files.push(file);
        Ok(())
    }

    fn includes(&mut self, path: &Path, file: &MeshFile) {
        let before = self.before.get(path);
        let includes = match before.filter(|before| before.text == file.text) {
            Some(before) => Arc::clone(&before.includes),
            None => includes(&file.text).into(),
        };
        let known = Known {
            text: Arc::clone(&file.text),
            includes: Arc::clone(&includes),
        };
        self.known.insert(path.to_path_buf(), known);
        let folder = path.parent().unwrap_or(Path::new("."));
        for (index, included) in includes.iter().enumerate() {
            let included = folder.join(included);
            let found = self.file(&included);
            let problem = |message: &str, hint: &str| {
                let message = format!("{}: {message}", included.display());
                include_problem(file, index, message, Some(hint.into()))
            };
            let problems = &mut self.loaded.problems;
            match found {
                Ok(()) => {}
                Err(Failure::Unreadable(message)) => {
                    let hint = "a path is relative to the file that includes it";
                    problems.push(problem(&message, hint));
                }
                Err(Failure::Cycle(names)) => {
                    let message = format!("files include each other: {names}");
                    let hint = "remove one of these includes";
                    self.loaded.cycles.push(problem(&message, hint));
                }
                Err(Failure::TooLarge) => problems.push(problem(FILES_TOO_LARGE, "include less")),
                Err(Failure::NotText(place)) => problems.push(not_text(place)),
            }
        }
    }

    /// The text of a file, within bounds.
    fn text(&mut self, path: &Path, metadata: &fs::Metadata) -> Result<Arc<str>, Failure> {
        let refuse = |message: &str| Err(Failure::Unreadable(message.into()));
        if metadata.is_dir() {
            return refuse("is a folder; name its files");
        }
        // A pipe or a device would never end.
        if !metadata.is_file() {
            return refuse("is no regular file");
        }
        let left = BYTES_MAX.saturating_sub(self.bytes);
        if metadata.len() > left {
            return Err(Failure::TooLarge);
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(path);
        let read = file.and_then(|file| file.take(left + 1).read_to_end(&mut bytes));
        read.map_err(|error| Failure::Unreadable(cannot_be_read(&error)))?;
        self.bytes += bytes.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(Failure::TooLarge);
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
                let name = path.display().to_string();
                Err(Failure::NotText(Place::after(&name, &before)))
            }
        }
    }

    fn refuse(&mut self, path: &Path, failure: Failure, hint: Option<String>) {
        let of_file = |message: String, hint| {
            let path = path.display().to_string();
            MeshProblem::from(Problem {
                path,
                message,
                hint,
            })
        };
        let problem = match failure {
            Failure::Unreadable(message) | Failure::Cycle(message) => of_file(message, hint),
            Failure::TooLarge => of_file(FILES_TOO_LARGE.into(), None),
            Failure::NotText(place) => not_text(place),
        };
        self.loaded.problems.push(problem);
    }

    /// A change of this file shows in its folder and, where it is a link, in its target's.
    fn watch(&mut self, path: &Path) {
        let target = fs::canonicalize(path).ok();
        for file in [Some(path), target.as_deref()].into_iter().flatten() {
            let folder = match file.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            self.loaded.folders.insert(folder.to_path_buf());
        }
    }
}

fn cannot_be_read(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

fn not_text(place: Place) -> MeshProblem {
    MeshProblem {
        place: Some(place),
        problem: Problem {
            path: String::new(),
            message: "is no UTF-8".into(),
            hint: Some("save the file as UTF-8".into()),
        },
    }
}

/// A folder's files of the mesh, by name. Hidden files are an editor's, or a ConfigMap's own (`..data`).
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = ENDINGS.iter().any(|ending| name.ends_with(ending));
        // What goes while we look is gone; a link that leads nowhere is told.
        let is_there = fs::symlink_metadata(&path).is_ok() && !path.is_dir();
        if is_ours && !name.starts_with('.') && is_there {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}
