//! What `mumbai-mesh export` writes, given to those for whom it is: real Envoys, the schemas of Kubernetes, and
//! an Envoy that is treated as Istio treats its proxies.

mod envoy;
mod folder;
mod istio;
mod istio_door;
mod kubernetes;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::run;

/// A good export: all documents on stdout.
fn exported(arguments: &[&str]) -> Result<Vec<Value>> {
    let (code, out, told) = run(&["export"], arguments)?;
    ensure!(code == Some(0), "{arguments:?}: {code:?} {told}");
    documents(&out)
}

fn documents(text: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).map_err(|error| anyhow::anyhow!("{error}: {text}"))
}

fn of_kind<'d>(documents: &'d [Value], kind: &str, name: &str) -> Result<&'d Value> {
    let is_it = |one: &&Value| one["kind"] == kind && one["metadata"]["name"] == name;
    documents
        .iter()
        .find(is_it)
        .with_context(|| format!("no {kind} {name}"))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("path")
}

/// A folder as Kubernetes mounts a ConfigMap or Secret: links to links, and all files are replaced at once.
struct Mounted {
    folder: PathBuf,
    number: u32,
}

impl Mounted {
    fn new(folder: PathBuf, files: &[(String, String)]) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut mounted = Self { folder, number: 0 };
        mounted.replace(files)?;
        for (name, _) in files {
            symlink(format!("..data/{name}"), mounted.folder.join(name))?;
        }
        Ok(mounted)
    }

    fn replace(&mut self, files: &[(String, String)]) -> Result<()> {
        self.number += 1;
        let data = format!("..{}", self.number);
        fs::create_dir(self.folder.join(&data))?;
        for (name, text) in files {
            fs::write(self.folder.join(&data).join(name), text)?;
        }
        let beside = self.folder.join("..data_tmp");
        symlink(&data, &beside)?;
        fs::rename(beside, self.folder.join("..data"))?;
        Ok(())
    }
}

/// A ConfigMap's files, with places in containers moved to where a test has them.
fn files(map: &Value, moved: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
    let data = map["data"].as_object().context("data")?;
    let file = |(name, text): (&String, &Value)| {
        let mut text = text.as_str().context("text")?.to_string();
        for (from, to) in moved {
            text = text.replace(from, to);
        }
        Ok((name.clone(), text))
    };
    data.iter().map(file).collect()
}
