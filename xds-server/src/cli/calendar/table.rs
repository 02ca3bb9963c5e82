//! The calendar as text.

use serde_json::Value;

use crate::{cli::output::columns, mesh::plain};

/// What holds, and one line for each change.
pub(super) fn outlook(outlook: &Value) -> String {
    let now = &outlook["now"];
    let mut on = names(&now["festivals"]);
    on.extend(names(&now["windows"]));
    let on = match on.join(", ") {
        names if names.is_empty() => String::new(),
        names => format!(" ({names})"),
    };
    let (at, state) = (text(&outlook["at"]), text(&now["traffic_state"]));
    let mut shown = format!("{at} {}: {state}{on}\n", text(&outlook["timezone"]));
    let changes = list(&outlook["changes"]);
    if changes.is_empty() {
        return shown + "nothing changes within four years\n";
    }
    let header = ["WHEN", "IN", "STATE", "WHAT"].map(str::to_string).to_vec();
    let row = |change: &Value| {
        let fields = ["at", "in", "traffic_state", "sentence"];
        fields.map(|field| text(&change[field])).to_vec()
    };
    let rows: Vec<Vec<String>> = std::iter::once(header)
        .chain(changes.iter().map(row))
        .collect();
    shown.push('\n');
    shown += &columns(&rows);
    if outlook["more"] != true {
        shown += "\nnothing else changes within four years\n";
    }
    shown
}

/// One line for each day.
pub(super) fn month(month: &Value) -> String {
    let mut shown = format!("{} {}\n\n", text(&month["month"]), text(&month["timezone"]));
    let header = [
        "DATE",
        "DAY",
        "BUSINESS",
        "FESTIVALS AND HOLIDAYS",
        "WINDOWS",
    ];
    let mut rows = vec![header.map(str::to_string).to_vec()];
    for day in list(&month["days"]) {
        let festivals = list(&day["festivals"]).iter().map(festival);
        let holidays = list(&day["holidays"]).iter();
        let holidays = holidays.map(|holiday| format!("{} (holiday)", text(&holiday["name"])));
        let special: Vec<String> = festivals.chain(holidays).collect();
        let windows: Vec<String> = list(&day["windows"]).iter().map(window).collect();
        rows.push(vec![
            text(&day["date"]),
            text(&day["weekday"]),
            if day["business_day"] == true {
                "yes"
            } else {
                "no"
            }
            .into(),
            special.join(", "),
            windows.join(", "),
        ]);
    }
    shown += &columns(&rows);
    shown
}

fn festival(festival: &Value) -> String {
    let mut notes = Vec::new();
    if festival["factor"] != 1.0 {
        notes.push(format!("x{}", festival["factor"]));
    }
    if festival["holiday"] == true {
        notes.push("holiday".into());
    }
    with_notes(text(&festival["name"]), &notes)
}

fn window(window: &Value) -> String {
    let mut notes = Vec::new();
    if window["multiplier"] != 1.0 {
        notes.push(format!("x{}", window["multiplier"]));
    }
    if !window["zone"].is_null() {
        notes.push(text(&window["zone"]));
    }
    let hours = hours(&text(&window["from"]), &text(&window["until"]));
    with_notes(format!("{} {hours}", text(&window["name"])), &notes)
}

fn with_notes(text: String, notes: &[String]) -> String {
    match notes.join(", ") {
        notes if notes.is_empty() => text,
        notes => format!("{text} ({notes})"),
    }
}

/// `22:00-02:00+05:30`; each with its offset where the clocks are changed between.
fn hours(from: &str, until: &str) -> String {
    // 2026-11-08T22:00:00+05:30
    let parts = |time: &str| {
        let (_, clock) = time.split_once('T')?;
        Some((clock.get(..5)?.to_string(), clock.get(8..)?.to_string()))
    };
    match (parts(from), parts(until)) {
        (Some((from, before)), Some((until, after))) if before == after => {
            // The day's end, not the beginning of the same day.
            let until = if until == "00:00" { "24:00" } else { &until };
            format!("{from}-{until}{after}")
        }
        (Some((from, before)), Some((until, after))) => format!("{from}{before} to {until}{after}"),
        _ => format!("{from}-{until}"),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn names(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

/// Names are strangers' words.
fn text(value: &Value) -> String {
    plain(value.as_str().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        calendar::{self, MonthOf},
        mesh::{Defaults, Mesh, read},
    };

    const MESH: &str = "\
peak_hours:
  evening: {start: 17, end: 24, multiplier: 1.5, zone: mumbai-west}
festivals: [{name: Diwali, date: 2026-11-08, factor: 2, holiday: true}]
holidays: [{name: Local, date: 2026-11-10}]
";

    fn mesh(text: &str) -> Mesh {
        read(text, &Defaults::default()).unwrap()
    }

    fn next(text: &str, count: usize) -> String {
        let at = policy::time::parse_instant("2026-11-07T18:00+05:30").unwrap();
        let answer = calendar::outlook(&mesh(text), at, count);
        outlook(&serde_json::to_value(answer).unwrap())
    }

    #[test]
    fn changes_are_lines_below_what_holds() {
        assert_eq!(
            next(MESH, 2),
            "\
2026-11-07T18:00:00+05:30 Asia/Kolkata: peak_hour (evening)

WHEN                       IN  STATE     WHAT
2026-11-08T00:00:00+05:30  6h  festival  window evening ends for zone mumbai-west
2026-11-08T00:00:00+05:30  6h  festival  festival Diwali begins, until 2026-11-09T00:00:00+05:30
"
        );
        let once = next("festivals: [{name: Diwali, date: 2026-11-08}]", 5);
        assert!(once.ends_with("festival Diwali ends\n\nnothing else changes within four years\n"));
        assert_eq!(
            next("{}", 5),
            "2026-11-07T18:00:00+05:30 Asia/Kolkata: normal\nnothing changes within four years\n"
        );
    }

    #[test]
    fn a_month_is_a_line_for_each_day() {
        let answer = calendar::month(&mesh(MESH), MonthOf::parse("2026-11").unwrap());
        let shown = month(&serde_json::to_value(answer).unwrap());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3 + 30);
        assert_eq!(lines[0], "2026-11 Asia/Kolkata");
        let evening = "evening 17:00-24:00+05:30 (x1.5, mumbai-west)";
        assert_eq!(
            lines[2],
            "DATE        DAY  BUSINESS  FESTIVALS AND HOLIDAYS  WINDOWS"
        );
        assert_eq!(
            lines[10],
            format!("2026-11-08  sun  no        Diwali (x2.0, holiday)  {evening}")
        );
        assert_eq!(
            lines[12],
            format!("2026-11-10  tue  no        Local (holiday)         {evening}")
        );
    }

    #[test]
    fn hours_name_both_offsets_where_they_differ() {
        assert_eq!(
            hours("2026-11-01T01:30:00-04:00", "2026-11-01T02:30:00-05:00"),
            "01:30-04:00 to 02:30-05:00"
        );
        assert_eq!(
            hours("2026-11-01T22:00:00+05:30", "2026-11-02T02:00:00+05:30"),
            "22:00-02:00+05:30"
        );
    }
}
