//! `critical list`.

use crate::cli::output::View;
use crate::cli::page::{Always, Page, Wide, dash, or_dash};
use crate::control::proto::CriticalStatus;

impl View for Vec<CriticalStatus> {
    const KIND: &'static str = "CriticalList";

    fn page(&self, page: &mut Page) {
        if self.is_empty() {
            return page.line("The active profile has no critical process.");
        }
        let columns = [
            Always("NAME"),
            Always("STATE"),
            Always("INSTANCES"),
            Always("DEATHS"),
            Always("LAST DEATH"),
            Always("HEALTH"),
            Always("RESTARTS"),
            Wide("PIDS"),
            Wide("NEEDS"),
        ];
        page.table(columns, self.iter().map(row));
    }
}

fn row(status: &CriticalStatus) -> [String; 9] {
    let CriticalStatus {
        name,
        state,
        instances,
        wanted,
        deaths,
        last_death,
        health,
        restart,
        dependencies,
        ..
    } = status;
    let death = last_death.as_ref().map(|death| match death.status {
        Some(status) => status.to_string(),
        None => "unknown cause".to_owned(),
    });
    let restarts = restart.as_ref().map(|restart| format!("{}/{}", restart.attempts, restart.most));
    let pids: Vec<String> = instances.iter().map(|member| member.key.pid.to_string()).collect();
    let needs: Vec<&str> = dependencies.iter().map(crate::model::id::Name::as_str).collect();
    [
        name.to_string(),
        state.clone(),
        format!("{}/{wanted}", instances.len()),
        deaths.to_string(),
        or_dash(death),
        or_dash(health.as_ref().map(|health| &health.state)),
        or_dash(restarts),
        dash(pids.join(",")),
        dash(needs.join(",")),
    ]
}
