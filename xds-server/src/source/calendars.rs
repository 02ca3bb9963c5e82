//! The calendars that come with mumbai-mesh are parts of a mesh file, and meshes by themselves.

use std::{fs, path::PathBuf};

use policy::timetable::{Festival, Timetable};

use super::*;

fn shipped(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../calendars").join(name).canonicalize().unwrap()
}

fn timetable(path: &Path) -> Timetable {
    let mesh = read_path(path, &Defaults::default());
    mesh.unwrap_or_else(|problems| panic!("{problems:#?}"))
        .timetable
}

fn dates<'t>(timetable: &'t Timetable, name: &str) -> Vec<String> {
    let named = |festival: &&'t Festival| festival.name.as_str() == name;
    let festivals = timetable.festivals().iter().filter(named);
    festivals
        .map(|found| found.dates.start().to_string())
        .collect()
}

#[test]
fn a_mesh_includes_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mesh.yaml");
    let (festivals, peak) = (shipped("india-festivals.yaml"), shipped("npci-peak.yaml"));
    let text = format!(
        "include: [{festivals:?}, {peak:?}]\n\
         peak_hours: {{market: {{start: \"09:15\", end: \"15:30\", except: holidays}}}}\n\
         festivals: [{{name: Diwali, date: 2026-11-08, factor: 2}}]\n"
    );
    fs::write(&file, text).unwrap();
    let timetable = timetable(&file);
    let windows: Vec<&str> = timetable
        .windows()
        .iter()
        .map(|window| window.name().as_str())
        .collect();
    assert_eq!(windows, ["market", "npci-evening", "npci-morning"]);
    let republic_day = "2027-01-26".parse().unwrap();
    assert!(timetable.business_days().is_holiday(republic_day));
    // Its own factor counts.
    let on_diwali = policy::time::parse_instant("2026-11-08T18:00+05:30").unwrap();
    assert_eq!(timetable.at(on_diwali, None).factor.percent(), 200);
}

#[test]
fn the_festivals_are_those_of_three_years_each_with_its_source() {
    let timetable = timetable(&shipped("india-festivals.yaml"));
    assert_eq!(
        dates(&timetable, "Diwali"),
        ["2026-11-08", "2027-10-29", "2028-10-17"]
    );
    assert_eq!(
        dates(&timetable, "Ganesh Chaturthi"),
        ["2026-09-14", "2027-09-04", "2028-08-23"]
    );
    for year in 2026..=2028 {
        let of = |festival: &&Festival| festival.dates.start().year() == year;
        assert_eq!(
            timetable.festivals().iter().filter(of).count(),
            20,
            "{year}"
        );
    }
    let festivals = timetable.festivals().iter();
    let sources = festivals
        .map(|festival| (&festival.name, festival.dates, &festival.source))
        .chain(
            timetable
                .holidays()
                .iter()
                .map(|holiday| (&holiday.name, holiday.dates, &holiday.source)),
        );
    for (name, dates, source) in sources {
        let source = source.as_deref().unwrap_or_default();
        assert!(source.starts_with("PyPI holidays "), "{name}: {source:?}");
        // Whoever reads the file sees which dates the moon may move.
        let islamic = ["Id-ul-Fitr", "Id-ul-Zuha", "Muharram", "Milad-un-Nabi"];
        let by_moon = islamic.contains(&name.as_str()) && dates.start().year() > 2026;
        assert_eq!(source.contains("estimate"), by_moon, "{name}: {source}");
    }
}

#[test]
fn the_peak_is_that_of_the_circular() {
    let timetable = timetable(&shipped("npci-peak.yaml"));
    let hours: Vec<String> = timetable
        .windows()
        .iter()
        .map(|window| format!("{}-{}", window.start(), window.end()))
        .collect();
    assert_eq!(hours, ["17:00-21:30", "10:00-13:00"]);
}
