//! Draws the screen of `top`. Bold, dim and reversed only, so that it reads alike on every terminal; whatever came from a
//! process is escaped.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table, TableState};

use super::screen::{Mode, Screen};
use crate::cli::delay;
use crate::cli::output::escape_controls;
use crate::cli::page::{or_dash, size};
use crate::cli::processes::user_name;
use crate::control::proto::CriticalStatus;
use crate::model::id::Name;
use crate::model::process::printable;
use crate::procfs::listing::Row;

/// Most groups that are shown.
const GROUPS_MAX: usize = 6;
/// Bytes of a command line that are looked at: more than any terminal is wide.
const COMMAND_MAX: usize = 512;
/// Who was kept from the CPUs for less than this, in hundredths of a percent, is not told of.
const SUFFERS: u32 = 100;
const KEYS: &str = "q quit  / filter  s sort  t limit  r release  ? help";
const HELP: &str = "\
up, k      select the process above
down, j    select the one below
PgUp PgDn  go ten rows
Home End   go to the first, to the last
/          filter by name, command line, pid or group; Esc clears it
s          order by CPU, memory, pid, name
t          limit the CPU time of the selected process
r          release the group of the selected process
q, Esc     quit

Any key goes back.";

const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let groups = screen.data().groups.len().min(GROUPS_MAX);
    // A heading and a gap, when there is anything.
    let groups_height = if groups == 0 { 0 } else { u16::try_from(groups).unwrap_or(0).saturating_add(2) };
    let heights = [
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(groups_height),
        Constraint::Min(1),
        Constraint::Length(1),
    ];
    let [head, _gap, groups, processes, foot] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(Paragraph::new(Text::from(summary(screen))), head);
    draw_groups(frame, groups, screen);
    if *screen.mode() == Mode::Help {
        frame.render_widget(Paragraph::new(HELP), processes);
    } else {
        draw_processes(frame, processes, screen);
    }
    frame.render_widget(Paragraph::new(escape_controls(&footer(screen))).style(HEAD), foot);
}

/// The daemon in one line, the critical processes in the other.
fn summary(screen: &Screen) -> Vec<Line<'static>> {
    let data = screen.data();
    let first = match &data.daemon {
        Some(daemon) => {
            let degraded = if daemon.source.degraded.is_empty() { "" } else { " (degraded)" };
            format!(
                "process-throttler {}  profile {}  source {}{degraded}  {} processes, {} limited",
                daemon.version,
                or_dash(daemon.profile.as_ref()),
                daemon.source.name,
                daemon.processes,
                daemon.throttled,
            )
        }
        None if data.trouble.is_some() => "process-throttler  the daemon does not answer".to_owned(),
        None => "process-throttler  no daemon runs: limits stand, nothing is watched".to_owned(),
    };
    let emergency = data.daemon.as_ref().and_then(|daemon| daemon.emergency.as_deref());
    let second = match (emergency, &data.trouble) {
        (Some(reason), _) => format!("EMERGENCY STOP, nothing is limited: {reason}"),
        (None, Some(trouble)) => trouble.clone(),
        (None, None) => critical(screen),
    };
    vec![Line::styled(escape_controls(&first), HEAD), Line::raw(one_line(&second))]
}

fn critical(screen: &Screen) -> String {
    let all = &screen.data().critical;
    let unwell: Vec<String> = all
        .iter()
        .filter(|critical| critical.state != "up")
        .map(|critical| format!("{} {}", critical.name, critical.state))
        .collect();
    let state = match (all.len(), unwell.as_slice()) {
        (0, _) => return String::new(),
        (count, []) => format!("critical: all {count} up"),
        (count, unwell) => format!("critical: {} of {count} not up: {}", unwell.len(), unwell.join(", ")),
    };
    match suffering(all) {
        Some(suffering) => format!("{state}; {suffering}"),
        None => state,
    }
}

/// The critical process that was kept from the CPUs most, by a quota or by whoever had them.
fn suffering(all: &[CriticalStatus]) -> Option<String> {
    let share = |critical: &&CriticalStatus| {
        let late = critical.cpu_delay.as_ref();
        let held = late.and_then(|late| late.held.as_ref()).map_or(0, |held| held.share.0);
        let waited = late.and_then(|late| late.waited.as_ref()).map_or(0, |waited| waited.share.0);
        held.max(waited)
    };
    let worst = all.iter().max_by_key(share).filter(|worst| share(worst) >= SUFFERS)?;
    let late = worst.cpu_delay.as_ref();
    let told = format!("{} held {}, waited {}", worst.name, delay::held(late), delay::waited(late));
    let holders = delay::holders(late);
    Some(if holders == "-" { told } else { format!("{told}: {holders}") })
}

fn draw_groups(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let data = screen.data();
    if data.groups.is_empty() {
        return;
    }
    let rows = data.groups.iter().take(GROUPS_MAX).map(|group| {
        let held = data.held.get(&group.group).map(|percent| format!("{percent:.0}%"));
        Cells::new([
            group.group.to_string(),
            group.members.len().to_string(),
            or_dash(held),
            delay::waited(group.cpu_delay.as_ref()),
            one_line(&group.limits.to_string()),
        ])
    });
    let more = data.groups.len().saturating_sub(GROUPS_MAX);
    let title = if more == 0 { "GROUP".to_owned() } else { format!("GROUP ({more} more)") };
    let widths = [
        Constraint::Max(24),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Min(10),
    ];
    let head = [title, "PROCS".to_owned(), "HELD".to_owned(), "WAITED".to_owned(), "LIMITS".to_owned()];
    let head = Cells::new(head).style(HEAD);
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

fn draw_processes(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let widths = [
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(12),
        Constraint::Length(15),
        Constraint::Min(8),
    ];
    let head = Cells::new(["PID", "USER", "CPU%", "RSS", "GROUP", "NAME", "COMMAND"]).style(HEAD);
    // Only what has room is laid out: there may be thousands.
    let room = usize::from(area.height.saturating_sub(1)).max(1);
    let at = screen.position().unwrap_or(0);
    let first = at.saturating_sub(room.saturating_sub(1));
    let rows = screen.processes().skip(first).take(room).map(|(row, group)| cells(row, group));
    let table = Table::new(rows, widths).header(head).row_highlight_style(CHOSEN);
    let mut state = TableState::new().with_selected(screen.position().map(|at| at.saturating_sub(first)));
    frame.render_stateful_widget(table, area, &mut state);
}

fn cells(row: &Row, group: Option<&Name>) -> Cells<'static> {
    let command = row.cmdline.get(..COMMAND_MAX).unwrap_or(&row.cmdline);
    Cells::new(
        [
            row.key.pid.to_string(),
            user_name(row.uid).unwrap_or_else(|| row.uid.to_string()),
            format!("{:.1}", row.cpu_percent),
            size(row.rss),
            or_dash(group),
            row.comm.to_string(),
            printable(command).to_string(),
        ]
        .map(|text| Cell::new(one_line(&text))),
    )
}

fn footer(screen: &Screen) -> String {
    match screen.mode() {
        Mode::Filter => format!("filter: {}_  Enter keeps it, Esc clears it", screen.filter()),
        Mode::Cap { process, comm, text } => match screen.said() {
            Some(said) => one_line(said),
            None => format!("limit process {} ({comm}) to how much of a CPU: {text}_", process.pid),
        },
        Mode::Ask(order) => order.question(),
        Mode::Browse | Mode::Help => match screen.said() {
            Some(said) => one_line(said),
            None if screen.filter().is_empty() => format!("{KEYS}  by {}", screen.sort().word()),
            None => format!("{KEYS}  by {}, filter {}", screen.sort().word(), screen.filter()),
        },
    }
}

/// Text of one line, without anything that a terminal obeys.
fn one_line(text: &str) -> String {
    escape_controls(text).replace('\n', "\\x0a")
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::super::screen::tests::{data, press};
    use super::*;

    fn text(screen: &Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn all_is_seen_on_80_by_24() {
        let lines = text(&Screen::new(data()), 80, 24);
        assert_eq!(lines.len(), 24);
        assert!(lines[0].contains("no daemon runs"), "{lines:#?}");
        assert!(lines[3].starts_with("GROUP"), "{lines:#?}");
        assert!(lines[4].contains("backups") && lines[4].contains("cpu"), "{lines:#?}");
        assert!(lines[6].starts_with("PID"), "{lines:#?}");
        assert!(lines[7].contains("backups") && lines[7].contains("hog"), "{lines:#?}");
        assert!(lines[23].starts_with(KEYS), "{lines:#?}");
    }

    #[test]
    fn who_keeps_a_critical_process_from_the_cpus_is_seen() {
        let mut data = data();
        let vital = serde_json::json!({
            "name": "web", "state": "up", "wanted": 1, "flapping": false, "deaths": 0, "instances": [],
            "cpu_delay": {
                "held": { "over_ms": 2_000, "held_us": 0, "share": 0 },
                "waited": {
                    "over_ms": 2_000, "waited_us": 1_220_000, "share": 6_100, "count": 9, "longest_us": 7,
                    "holders": [{ "cgroup": "/b", "group": "backups", "share": 9_000 }],
                },
            },
        });
        data.critical = vec![serde_json::from_value(vital).unwrap()];
        data.groups[0].cpu_delay = data.critical[0].cpu_delay.clone();
        let lines = text(&Screen::new(data.clone()), 80, 24);
        assert_eq!(lines[1], "critical: all 1 up; web held 0%, waited 61%: group backups 90%");
        assert!(lines[3].contains("HELD  WAITED LIMITS") && lines[4].contains("61%"), "{lines:#?}");
        data.critical[0].cpu_delay = None;
        assert_eq!(text(&Screen::new(data), 80, 24)[1], "critical: all 1 up");
    }

    #[test]
    fn no_size_is_too_small_and_no_name_reaches_the_terminal() {
        let mut screen = Screen::new(data());
        for (width, height) in [(1, 1), (3, 2), (20, 5), (80, 24), (300, 90)] {
            for line in text(&screen, width, height) {
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
        assert!(text(&screen, 80, 24).iter().any(|line| line.contains("\\x1b[2J")));
        press(&mut screen, KeyCode::Char('?'));
        assert!(text(&screen, 80, 24).iter().any(|line| line.contains("Any key goes back")));
    }

    #[test]
    fn the_selected_process_is_in_sight() {
        let mut screen = Screen::new(data());
        press(&mut screen, KeyCode::End);
        let lines = text(&screen, 80, 12);
        let last = screen.processes().last().map(|(row, _)| row.key.pid.to_string()).unwrap();
        assert!(lines.iter().any(|line| line.starts_with(&last)), "{lines:#?}");
    }
}
