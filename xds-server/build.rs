//! Puts Envoy's protobuf descriptors into the binary. `envoy-types` ships them as a file in its package but exports no
//! constant, so the package's folder is found through `cargo metadata`; source comments are dropped (3.4 MB -> 0.7 MB).

#![allow(
    clippy::disallowed_methods,
    reason = "cargo passes its settings to build scripts in the environment"
)]
use std::{env, error::Error, fs, path::PathBuf, process::Command};

use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let source = envoy_types_folder()?.join("src/generated/types.bin");
    let target = PathBuf::from(env::var("OUT_DIR")?).join("envoy.bin");
    fs::write(target, without_comments(&fs::read(&source)?)?)?;
    Ok(())
}

/// A FileDescriptorSet without its files' source_code_info. Field by field: decoded as prost's own types it would lose
/// what Envoy's annotations say, such as which fields are sensitive.
fn without_comments(set: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    const SOURCE_CODE_INFO: u32 = 9;
    let mut stripped = Vec::new();
    for (tag, mut file) in fields(set)? {
        decode_key(&mut file)?;
        decode_varint(&mut file)?;
        let mut kept = Vec::new();
        for (tag, field) in fields(file)? {
            if tag != SOURCE_CODE_INFO {
                kept.extend_from_slice(field);
            }
        }
        encode_key(tag, WireType::LengthDelimited, &mut stripped);
        encode_varint(kept.len() as u64, &mut stripped);
        stripped.extend_from_slice(&kept);
    }
    Ok(stripped)
}

/// A field's tag, and all of its bytes.
type Field<'m> = (u32, &'m [u8]);

fn fields(mut message: &[u8]) -> Result<Vec<Field<'_>>, Box<dyn Error>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let mut rest = message;
        let (tag, wire_type) = decode_key(&mut rest)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        fields.push((tag, &message[..message.len() - rest.len()]));
        message = rest;
    }
    Ok(fields)
}

fn envoy_types_folder() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(env::var("CARGO")?)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--manifest-path",
        ])
        .arg(PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("envoy-types is not among the packages that cargo metadata lists")?;
    Ok(PathBuf::from(manifest)
        .parent()
        .ok_or("manifest without a folder")?
        .to_path_buf())
}
