//! Follows the folder of `--resources`: every `*.json`, `*.yaml` and `*.yml` in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{RawResources, files::Look};
use crate::file_events::{FileEvents, settled};

/// A file larger than this is refused unread.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the folder holds.
///
/// # Errors
/// Why the folder cannot be read.
pub fn look(folder: &Path) -> Result<Look, String> {
    let files = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut look = Look::new();
    for file in files {
        let path = file.map_err(|error| error.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = [".json", ".yaml", ".yml"]
            .iter()
            .any(|ending| name.ends_with(ending));
        // Hidden files are an editor's, or a ConfigMap's own. What goes while we look is gone.
        if !is_ours || name.starts_with('.') || path.is_dir() || !path.exists() {
            continue;
        }
        let text = read(&path)
            .map(Into::into)
            .map_err(|error| error.to_string());
        look.insert(name.into(), text);
    }
    Ok(look)
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("larger than 64 MiB"));
    }
    fs::read_to_string(path)
}

/// Looks again and again, for ever; end it by dropping it.
pub async fn follow(folder: PathBuf, resources: Arc<RawResources>) {
    let mut events = FileEvents::of_folder(&folder);
    let mut known = None;
    loop {
        events.next().await;
        let found = settled(&known, async || look_aside(&folder).await).await;
        if found == known {
            continue;
        }
        let (taken, resources) = (found.clone(), Arc::clone(&resources));
        let taking = move || match taken {
            Some(Ok(look)) => resources.take_files(Ok(&look)),
            Some(Err(error)) => resources.take_files(Err(error)),
            None => true,
        };
        // It fails only when the runtime is gone.
        let is_kept = tokio::task::spawn_blocking(taking).await;
        known = if is_kept.unwrap_or(true) { found } else { None };
    }
}

/// Away from the threads that serve.
async fn look_aside(folder: &Path) -> Option<Result<Look, String>> {
    let folder = folder.to_path_buf();
    tokio::task::spawn_blocking(move || look(&folder))
        .await
        .ok()
}
