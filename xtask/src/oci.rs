//! `cargo xtask oci`: the filter as OCI layouts, in both forms that Istio takes from a registry. No registry is
//! needed: oras, crane and skopeo copy a layout to one.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::wasm::hex;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The file that Istio looks for in an image's last layer.
const MODULE: &str = "plugin.wasm";

/// A layout that was written.
pub struct Layout {
    /// Its folder.
    pub path: PathBuf,
    /// Of its manifest, in hex: a WasmPlugin's `sha256` for `oci://`.
    pub digest: String,
}

/// An image of one layer, which holds the module as a file: what `FROM scratch` and `COPY` make.
pub fn image(folder: &Path, wasm: &[u8]) -> Result<Layout> {
    let tar = tar(wasm)?;
    let blobs = Blobs::new(folder)?;
    let layer = blobs.put("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&tar)?)?;
    let config = json!({
        "architecture": "wasm",
        "os": "wasi",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&tar))]},
    });
    let config = blobs.put(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    blobs.finish(&config, &[layer])
}

/// An artifact of two layers, the module and what it needs to run: nothing.
pub fn artifact(folder: &Path, wasm: &[u8]) -> Result<Layout> {
    let blobs = Blobs::new(folder)?;
    let module = blobs.put("application/vnd.module.wasm.content.layer.v1+wasm", wasm)?;
    let config = json!({"type": "envoy_proxy", "abiVersions": ["v0.2.1"], "config": {"rootIds": ["mumbai_mesh"]}});
    let config = config.to_string();
    let runtime = blobs.put(
        "application/vnd.module.wasm.config.v1+json",
        config.as_bytes(),
    )?;
    let config = blobs.put(
        "application/vnd.module.wasm.config.v1+json",
        config.as_bytes(),
    )?;
    blobs.finish(&config, &[runtime, module])
}

/// A layout in the making.
struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    fn new(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        Ok(Self {
            folder: folder.into(),
        })
    }

    /// Its descriptor.
    fn put(&self, kind: &str, bytes: &[u8]) -> Result<Value> {
        let digest = sha256(bytes);
        fs::write(self.folder.join("blobs/sha256").join(&digest), bytes)?;
        Ok(json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
    }

    fn finish(self, config: &Value, layers: &[Value]) -> Result<Layout> {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
        });
        let manifest = manifest.to_string();
        let descriptor = self.put(MANIFEST, manifest.as_bytes())?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [descriptor],
        });
        fs::write(self.folder.join("index.json"), index.to_string())?;
        fs::write(
            self.folder.join("oci-layout"),
            json!({"imageLayoutVersion": "1.0.0"}).to_string(),
        )?;
        Ok(Layout {
            path: self.folder,
            digest: sha256(manifest.as_bytes()),
        })
    }
}

/// Equal modules make equal layouts: no time, no owner.
fn tar(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(wasm.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, MODULE, wasm)?;
    Ok(tar.into_inner()?)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    /// As a client of a registry reads it: everything by digest, from the index on.
    struct Pulled {
        folder: PathBuf,
        manifest: Value,
    }

    impl Pulled {
        fn of(layout: &Layout) -> Self {
            let read = |path: PathBuf| -> Value {
                serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
            };
            assert_eq!(
                read(layout.path.join("oci-layout"))["imageLayoutVersion"],
                "1.0.0"
            );
            let index = read(layout.path.join("index.json"));
            let [only] = index["manifests"].as_array().unwrap().as_slice() else {
                panic!("{index}");
            };
            assert_eq!(only["digest"], format!("sha256:{}", layout.digest));
            let folder = layout.path.clone();
            let manifest = serde_json::from_slice(&blob(&folder, only)).unwrap();
            let pulled = Self { folder, manifest };
            pulled.blob(&pulled.manifest["config"]);
            pulled
        }

        fn layers(&self) -> &[Value] {
            self.manifest["layers"].as_array().unwrap()
        }

        fn blob(&self, descriptor: &Value) -> Vec<u8> {
            blob(&self.folder, descriptor)
        }
    }

    fn blob(folder: &Path, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        let bytes = fs::read(folder.join("blobs/sha256").join(digest)).unwrap();
        assert_eq!(sha256(&bytes), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    /// Istio's rule for images: `plugin.wasm` in the last layer, a gzipped tar.
    #[test]
    fn istio_finds_the_module_in_the_last_layer_of_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let layout = image(&dir.path().join("image"), WASM).unwrap();
        let pulled = Pulled::of(&layout);
        let last = pulled.layers().last().unwrap();
        assert_eq!(
            last["mediaType"],
            "application/vnd.oci.image.layer.v1.tar+gzip"
        );
        let layer = pulled.blob(last);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry
                .path()
                .unwrap()
                .file_name()
                .is_some_and(|name| name == "plugin.wasm")
            {
                entry.read_to_end(&mut found).unwrap();
            }
        }
        assert_eq!(found, WASM);
        // What an image's config says of its layer is true.
        let config: Value =
            serde_json::from_slice(&pulled.blob(&pulled.manifest["config"])).unwrap();
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&layer[..])
            .read_to_end(&mut tar)
            .unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!([format!("sha256:{}", sha256(&tar))])
        );
    }

    /// Istio's rule for artifacts: exactly two layers, one of the module's type.
    #[test]
    fn istio_finds_the_module_among_the_two_layers_of_the_artifact() {
        let dir = tempfile::tempdir().unwrap();
        let layout = artifact(&dir.path().join("artifact"), WASM).unwrap();
        let pulled = Pulled::of(&layout);
        assert_eq!(pulled.layers().len(), 2);
        let is_module = |layer: &&Value| {
            layer["mediaType"] == "application/vnd.module.wasm.content.layer.v1+wasm"
        };
        let modules: Vec<&Value> = pulled.layers().iter().filter(is_module).collect();
        assert_eq!(modules.len(), 1);
        assert_eq!(pulled.blob(modules[0]), WASM);
    }

    #[test]
    fn equal_modules_make_equal_layouts_whatever_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("image");
        let first = image(&folder, WASM).unwrap().digest;
        fs::write(folder.join("blobs/sha256/old"), "x").unwrap();
        assert_eq!(image(&folder, WASM).unwrap().digest, first);
        assert!(!folder.join("blobs/sha256/old").exists());
        assert_ne!(image(&folder, b"\0asm\x01\0\0\0\0").unwrap().digest, first);
    }
}
