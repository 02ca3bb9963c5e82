//! Files that replace those of an earlier export together.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

use crate::export::{Manifest, is_ours};

const READABLE: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Writes all files or none, and removes those of an earlier export that are none of these. Their paths.
pub(super) fn replace(folder: &Path, files: &[Manifest]) -> anyhow::Result<Vec<PathBuf>> {
    let mut texts = Vec::new();
    for file in files {
        let path = folder.join(file.name);
        if path.is_dir() {
            bail!("{} is a folder: move it away", path.display());
        }
        let mode = if file.is_secret { SECRET } else { READABLE };
        texts.push((path, file.text()?, mode));
    }
    fs::create_dir_all(folder)?;
    // Whatever may fail (a full disk) fails before anything is replaced.
    let staged = texts.into_iter().map(|(path, text, mode)| {
        let beside = path.parent().unwrap_or(folder);
        fs::create_dir_all(beside).with_context(|| beside.display().to_string())?;
        let written = stage(beside, &text, mode).with_context(|| path.display().to_string());
        Ok((written?, path))
    });
    let staged: Vec<(NamedTempFile, PathBuf)> = staged.collect::<anyhow::Result<_>>()?;
    let kept: Vec<PathBuf> = staged.iter().map(|(_, path)| path.clone()).collect();
    let earlier = earlier(folder, &kept)?;
    let mut undo = Vec::new();
    for (file, path) in staged {
        let before = fs::read(&path).ok();
        if let Err(error) = file.persist(&path) {
            put_back(&undo);
            return Err(error.error).with_context(|| path.display().to_string());
        }
        undo.push((path, before));
    }
    for path in earlier {
        fs::remove_file(&path).with_context(|| path.display().to_string())?;
    }
    Ok(kept)
}

fn stage(folder: &Path, text: &str, mode: u32) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Files of an earlier export that this one has not: `kubectl apply -f DIR` would bring them back.
fn earlier(folder: &Path, kept: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml");
        if is_yaml && path.is_file() && !kept.contains(&path) && is_ours(&fs::read(&path)?) {
            found.push(path);
        }
    }
    Ok(found)
}

/// As far as that goes: the disk has just refused something.
fn put_back(undo: &[(PathBuf, Option<Vec<u8>>)]) {
    for (path, before) in undo {
        let _ = match before {
            Some(bytes) => fs::write(path, bytes),
            None => fs::remove_file(path),
        };
    }
}
