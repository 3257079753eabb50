//! `charm turns`: the turns that have begun and not ended, and what they wait for (S7).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::{Context, Heard, ask};
use crate::{
    deed::Deed,
    failure::{Exit, Failure},
    output::table,
    place,
    told::{Names, Told, TurnLine},
};

/// Asks the host that runs; without one, or when it does not answer, reads the store: turns that wait are listed then, and none that
/// runs; a host that does not answer is an error behind the list. Their state is one of running, conflict, http, room, waiting, retry, ready, held.
#[derive(Args)]
pub struct Turns {
    /// The charm; all when none is given
    charm: Option<String>,
    /// List those at positions after this one: the last of the page before
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// List no more than so many, 1,000 at most
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    max: usize,
}

impl Turns {
    pub async fn run(&self, context @ (globals, output, _): Context<'_>) -> Result<Exit, Failure> {
        let (after, max) = (self.after, self.max.min(charm_host::TURNS_PAGE_MAX));
        let mut silence = None;
        let lines = match ask(context, Deed::Turns { charm: self.charm.clone(), after, max }, Duration::MAX).await? {
            Heard::Told(Told::Turns(lines)) => lines,
            heard => {
                let archive = place::archive(globals)?;
                let spaces = archive.spaces();
                let charm = self.charm.as_ref().map(|charm| place::space(&spaces, charm)).transpose()?;
                let turns = archive.turns(charm.as_ref().map(|space| &space.did), after, max);
                let names = Names::of(spaces);
                match heard {
                    Heard::NoAnswer(failure) => {
                        let what = "a host runs, but did not answer: what waits is read from the store, and what runs is not known";
                        silence = Some(failure.about(what));
                    }
                    _ => output.note("no host runs: what waits is read from the store"),
                }
                turns.iter().map(|turn| TurnLine::of(turn, &names)).collect()
            }
        };
        let now = now_ms();
        output.print(&lines, || {
            let head = ["EVENT", "CHARM", "SENDER", "STREAM", "STATE", "SINCE", "SEGMENTS", "WAITS FOR"];
            table(head, lines.iter().map(|line| row(line, now)).collect())
        })?;
        if let Some(last) = lines.last().filter(|_| lines.len() == max) {
            output.note(&format!("there may be more: --after {}", last.position));
        }
        silence.map_or(Ok(Exit::Done), Err)
    }
}

fn row(line: &TurnLine, now: u64) -> [String; 8] {
    let mut waits = String::new();
    if let Some(wait) = line.wait.as_ref().filter(|_| line.state == "waiting" || line.state == "held") {
        let events = line.waits_for.iter().map(|waited| format!("{} of {}", waited.event, waited.to.shown()));
        let mut events: Vec<String> = events.collect();
        if line.unsettled > events.len() {
            events.push(format!("{} more", line.unsettled - events.len()));
        }
        waits = match line.named {
            0 => wait.clone(),
            named => format!("{wait} of {named}, {} to come: {}", line.unsettled, events.join(", ")),
        };
    }
    if line.state == "retry" {
        waits = format!("try {}", line.retries + 1);
    }
    if let Some(until) = line.until {
        waits += &format!("; {} left", span(until.saturating_sub(now)));
    }
    if line.conflicts > 0 {
        waits = format!("{} conflicts{}{waits}", line.conflicts, if waits.is_empty() { "" } else { "; " });
    }
    [
        line.event.clone(),
        line.charm.shown().to_owned(),
        line.sender.shown().to_owned(),
        line.stream.clone(),
        line.state.clone(),
        span(now.saturating_sub(line.since)),
        line.segments.to_string(),
        waits,
    ]
}

/// Returns the milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

/// Returns a stretch of time as people say it: its two largest parts.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, 0) => format!("{ms} ms"),
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, 0, ..) => format!("{days} d"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn a_stretch_of_time_is_told_in_its_largest_parts() {
        let times = [0, 999, 59_999, 61_000, 3_600_000 * 5 + 60_000, 86_400_000 * 3 + 3_600_000, 86_400_000 * 3];
        assert_eq!(times.map(span), ["0 ms", "999 ms", "59 s", "1 min 1 s", "5 h 1 min", "3 d 1 h", "3 d"]);
    }
}
