//! README's third door. There is no Kubernetes here, so `kubectl` and `istioctl` are scripts that keep what they are
//! given; what Istio makes of it, the other tests of this folder ask a real Envoy.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use harness::{artifacts::Artifacts, readme};

use super::documents;

/// Keeps its arguments.
const KEEP: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> \"$KEPT/calls\"\n";

fn script(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The files that calls name by these options.
fn named(calls: &str, option: &str) -> Vec<PathBuf> {
    let words = calls.split_whitespace();
    let after = words.clone().skip(1);
    words
        .zip(after)
        .filter(|(word, _)| *word == option)
        .map(|(_, file)| file.into())
        .collect()
}

#[test]
fn the_commands_of_readme_hand_over_what_istio_takes() -> Result<()> {
    let artifacts = Artifacts::from_env()?;
    let dir = tempfile::tempdir()?;
    let kept = dir.path();
    for program in ["kubectl", "istioctl"] {
        script(kept, program, KEEP)?;
    }
    // What is built already: says where the filter is, and runs the program.
    let built = format!(
        "#!/bin/sh\ncase \"$*\" in\n'xtask wasm') echo '{}' ;;\n'run --release -p mumbai-mesh -- '*) shift 5; exec '{}' \"$@\" ;;\n*) exit 1 ;;\nesac\n",
        artifacts.wasm.display(),
        artifacts.server.display()
    );
    script(kept, "cargo", &built)?;
    let commands = readme::door("With Istio")?;
    ensure!(commands.len() <= 5, "more than five: {commands:#?}");
    let out = kept.join("istio");
    for command in &commands {
        let command = command.replace("target/istio", &out.display().to_string());
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .env("PATH", format!("{}:/usr/bin:/bin", kept.display()))
            .env("KEPT", kept)
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command}: {errors}");
    }
    let calls = fs::read_to_string(kept.join("calls"))?;
    ensure!(
        calls.contains(&format!("--from-file={}", artifacts.wasm.display())),
        "{calls}"
    );
    for option in ["-f", "--patch-file"] {
        let files = named(&calls, option);
        ensure!(!files.is_empty(), "no {option}: {calls}");
        for file in &files {
            let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            ensure!(
                !documents(&text)?.is_empty(),
                "{} says nothing",
                file.display()
            );
        }
    }
    let apply = calls
        .lines()
        .find(|call| call.starts_with("kubectl apply "));
    let mut kinds = Vec::new();
    for file in named(apply.context("nothing was applied")?, "-f") {
        for document in documents(&fs::read_to_string(file)?)? {
            kinds.push(document["kind"].as_str().context("kind")?.to_string());
        }
    }
    kinds.dedup();
    ensure!(
        kinds == ["WasmPlugin", "DestinationRule", "VirtualService"],
        "{kinds:?}"
    );
    Ok(())
}
