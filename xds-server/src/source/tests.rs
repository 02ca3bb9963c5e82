//! Files on disk are one mesh: folders, includes, ConfigMaps.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::*;
use crate::store::Embedded;

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

fn services(path: &Path) -> Vec<String> {
    let mesh = read_path(path, &Defaults::default());
    let mesh = mesh.unwrap_or_else(|problems| panic!("{problems:#?}"));
    mesh.services.keys().map(ToString::to_string).collect()
}

/// Problems, with the folder's own name taken out.
fn told(dir: &Path, path: &Path) -> Vec<String> {
    let problems = read_path(path, &Defaults::default()).unwrap_err();
    let prefix = format!("{}/", dir.display());
    let line = |problem: &MeshProblem| problem.to_string().replace(&prefix, "");
    problems.iter().map(line).collect()
}

#[test]
fn a_file_includes_others_relative_to_itself_and_each_once() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            (
                "mesh.yaml",
                "include: [teams/a.yaml, teams/b.yaml]\nservices: {own: {}}\n",
            ),
            (
                "teams/a.yaml",
                "include: [../shared.yaml]\nservices: {a: {}}\n",
            ),
            (
                "teams/b.yaml",
                "include: [../shared.yaml]\nservices: {b: {}}\n",
            ),
            ("shared.yaml", "services: {shared: {}}\n"),
        ],
    );
    let file = dir.path().join("mesh.yaml");
    assert_eq!(services(&file), ["a", "b", "own", "shared"]);
    let folders = Loader::new(&file).look().folders;
    assert!(folders.contains(&dir.path().join("teams")), "{folders:?}");
}

#[test]
fn classes_of_included_files_come_first() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            (
                "mesh.yaml",
                "include: [classes.yaml]\ntraffic_classes: {last: {}}\n",
            ),
            ("classes.yaml", "traffic_classes: {zinc: {}, bronze: {}}\n"),
        ],
    );
    let mesh = read_path(&dir.path().join("mesh.yaml"), &Defaults::default()).unwrap();
    let names = mesh.traffic_classes.iter().map(|class| class.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["zinc", "bronze", "last"]);
}

#[test]
fn a_cycle_of_includes_is_told_with_its_whole_chain() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("mesh.yaml", "include: [a.yaml]\n"),
            ("a.yaml", "services: {}\ninclude:\n  - b.yaml\n"),
            ("b.yaml", "include: [a.yaml]\n"),
            ("self.yaml", "include: [self.yaml]\n"),
        ],
    );
    assert_eq!(
        told(dir.path(), &dir.path().join("mesh.yaml")),
        [
            "b.yaml:1:11: include[0]: a.yaml: files include each other: a.yaml -> b.yaml -> a.yaml (remove one of these includes)"
        ]
    );
    let own = told(dir.path(), &dir.path().join("self.yaml"));
    assert!(own[0].contains("self.yaml -> self.yaml"), "{own:?}");
}

/// README's sample is what the program says.
#[test]
fn the_readmes_sample_of_a_misspelt_field_is_what_is_told() {
    let name = "envoy/examples/mesh.yaml";
    let dir = tempfile::tempdir().unwrap();
    let text = include_str!("../../../envoy/examples/mesh.yaml");
    let wrong = text.replace("      weight: 10 ", "      wieght: 25 ");
    assert_ne!(text, wrong);
    write(dir.path(), &[(name, &wrong)]);
    let told = told(dir.path(), &dir.path().join(name));
    let sample = format!(
        "{name}: {} problem(s); the last good revision stays in force\n  {}\n",
        told.len(),
        told.join("\n  ")
    );
    assert!(
        include_str!("../../../README.md").contains(&sample),
        "README's sample is out of date: {sample}"
    );
}

/// A missing file may hold names, so nothing is said of names that are not there; a circle hides none.
#[test]
fn a_wrong_include_hides_no_problem_of_the_file_itself() {
    let dir = tempfile::tempdir().unwrap();
    let rest = "servces: {}\ntimezone: x\nservices: {a: {uses: [nope]}}\n";
    let write_one = |include: &str| {
        let text = format!("include: [{include}]\n{rest}");
        write(dir.path(), &[("mesh.yaml", &text)]);
        told(dir.path(), &dir.path().join("mesh.yaml"))
    };
    for (include, expected) in [("no.yaml", 3), ("mesh.yaml", 4)] {
        let told = write_one(include);
        assert_eq!(told.len(), expected, "{told:#?}");
        assert!(told[0].starts_with("mesh.yaml:1:11: include[0]: "));
        assert!(told[1].starts_with("mesh.yaml:2:1: servces: unknown field"));
        assert!(told[2].starts_with("mesh.yaml:3:1: timezone: unknown time zone"));
        assert_eq!(told.get(3).is_some(), include == "mesh.yaml");
    }
}

#[test]
fn what_cannot_be_included_is_told_at_its_line() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[(
            "mesh.yaml",
            "include:\n- missing.yaml\n- dir\n- latin.yaml\n- /dev/zero\n",
        )],
    );
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(
        dir.path().join("latin.yaml"),
        b"mesh: {name: a}\n# caf\xe9\n",
    )
    .unwrap();
    let told = told(dir.path(), &dir.path().join("mesh.yaml"));
    let expected = [
        "latin.yaml:2:6: is no UTF-8",
        "mesh.yaml:2:3: include[0]: missing.yaml: cannot be read: No such file",
        "mesh.yaml:3:3: include[1]: dir: is a folder; name its files",
        "mesh.yaml:5:3: include[3]: /dev/zero: is no regular file",
    ];
    for expected in expected {
        assert!(
            told.iter().any(|told| told.starts_with(expected)),
            "{expected}: {told:#?}"
        );
    }
    assert_eq!(told.len(), expected.len(), "no further ones: {told:#?}");
}

#[test]
fn files_beyond_the_bound_are_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mesh.yaml");
    fs::write(&file, "#".repeat(50_000_000)).unwrap();
    let told = told(dir.path(), &file);
    assert!(
        told[0].starts_with("mesh.yaml: the files of a mesh hold more than 16 MiB"),
        "{told:?}"
    );
}

#[test]
fn a_folder_is_its_yaml_files_and_neither_hidden_nor_foreign_ones() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[
            ("10-a.yaml", "services: {a: {}}\n"),
            ("20-b.yml", "services: {b: {}}\n"),
            (".20-b.yml.swp", "broken: ["),
            (".hidden.yaml", "broken: ["),
            ("README.md", "broken: ["),
            ("mesh.yaml~", "broken: ["),
            ("deeper/c.yaml", "broken: ["),
            ("folder.yaml/c.yaml", "broken: ["),
        ],
    );
    assert_eq!(services(dir.path()), ["a", "b"]);
    fs::remove_file(dir.path().join("10-a.yaml")).unwrap();
    assert_eq!(services(dir.path()), ["b"]);
    fs::remove_file(dir.path().join("20-b.yml")).unwrap();
    let empty = told(dir.path(), dir.path());
    assert!(
        empty[0].contains("has no *.yaml or *.yml file (write {}"),
        "{empty:?}"
    );
}

#[test]
fn a_link_of_a_folder_that_leads_nowhere_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a.yaml", "services: {a: {}}\n")]);
    symlink(dir.path().join("nowhere"), dir.path().join("b.yaml")).unwrap();
    let told = told(dir.path(), dir.path());
    assert!(told[0].starts_with("b.yaml: cannot be read"), "{told:?}");
}

/// As the kubelet makes it: files are links through `..data`, which is a link to a folder of a name of its
/// own and is replaced by rename.
#[test]
fn a_config_map_is_read_through_its_links_once() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("config");
    write(
        &mount,
        &[
            (
                "..2026_11_25/mesh.yaml",
                "include: [calendar.yaml]\nservices: {a: {}}\n",
            ),
            (
                "..2026_11_25/calendar.yaml",
                "festivals: [\"2026-11-08\"]\n",
            ),
        ],
    );
    symlink("..2026_11_25", mount.join("..data")).unwrap();
    for name in ["mesh.yaml", "calendar.yaml"] {
        symlink(format!("..data/{name}"), mount.join(name)).unwrap();
    }
    assert_eq!(services(&mount), ["a"]);
    let mut loader = Loader::new(&mount);
    let before = loader.look();
    assert_eq!(before.files.len(), 2);
    assert_eq!(loader.look(), before, "a second look finds the same");

    write(&mount, &[("..2026_11_26/mesh.yaml", "services: {b: {}}\n")]);
    write(&mount, &[("..2026_11_26/calendar.yaml", "{}\n")]);
    symlink("..2026_11_26", mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    assert_ne!(loader.look(), before);
    assert_eq!(services(&mount), ["b"]);
}

#[test]
fn the_last_good_mesh_is_all_files_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    write(
        &config,
        &[
            (
                "a.yaml",
                "services: {a: {timeout: 2s}}\nmesh: {name: mumbai}\n",
            ),
            (
                "b.yaml",
                "peak_hours: {\"07:00 – सुबह\": {start: \"07:00\", end: 11}}\n",
            ),
        ],
    );
    let store: Arc<dyn Store> = Arc::new(Embedded::open(&dir.path().join("state")).unwrap());
    let named = ConfigPath::Named(config.clone());
    let defaults = Defaults::default();
    let in_force = |start: &Start| Arc::clone(&start.catalog.revisions().borrow());
    let first = start(&named, &defaults, &store).ok().unwrap();
    assert_eq!((first.refused, in_force(&first).number), (0, 1));
    write(&config, &[("a.yaml", "services: [")]);
    let second = start(&named, &defaults, &store).ok().unwrap();
    assert_eq!(in_force(&second).mesh, in_force(&first).mesh);
    assert_eq!((second.refused > 0, in_force(&second).number), (true, 1));
    assert!(second.catalog.refusal().borrow().is_some());

    // Without files, the store says what is served.
    let none = ConfigPath::Default(dir.path().join("nowhere"));
    let third = start(&none, &defaults, &store).ok().unwrap();
    assert_eq!((third.refused, in_force(&third).number), (0, 1));
}
