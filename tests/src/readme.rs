//! The commands of README and of the examples' pages, so that tests run them as they stand there.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// The commands of one section of README.
///
/// # Errors
/// When README has no such section.
pub fn commands(section: &str) -> Result<Vec<String>> {
    let page = read("README.md")?;
    let (_, rest) = page
        .split_once(&format!("\n## {section}\n"))
        .with_context(|| format!("README has no section {section:?}"))?;
    Ok(in_blocks(rest.split("\n## ").next().unwrap_or_default()))
}

/// The commands of README's section on a door: its first block alone, which is all that a person needs to begin.
///
/// # Errors
/// As [`commands`].
pub fn door(section: &str) -> Result<Vec<String>> {
    let page = read("README.md")?;
    let (_, rest) = page
        .split_once(&format!("\n## {section}\n"))
        .with_context(|| format!("README has no section {section:?}"))?;
    let (_, block) = rest.split_once("```sh\n").context("no commands")?;
    let (block, _) = block.split_once("```").context("no end of the commands")?;
    Ok(in_lines(block.lines()))
}

/// The commands of a page of the repository.
///
/// # Errors
/// When there is no such page.
pub fn commands_of(page: &str) -> Result<Vec<String>> {
    Ok(in_blocks(&read(page)?))
}

fn read(page: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(page)).with_context(|| page.to_string())
}

fn in_blocks(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| Some(block.split_once("```")?.0));
    in_lines(blocks.flat_map(str::lines))
}

/// A command begins at the margin; what is indented goes on.
fn in_lines<'t>(lines: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in lines {
        match commands.last_mut() {
            Some(command) if line.starts_with(' ') => *command += &format!("\n{line}"),
            _ => commands.push(line.into()),
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_door_is_at_most_five_commands() {
        let sections = [
            "The filter alone",
            "With docker compose",
            "With Istio",
            "Ask it with grpcurl",
        ];
        for section in sections {
            let count = door(section).unwrap().len();
            assert!((1..=5).contains(&count), "{section}: {count}");
        }
    }
}
