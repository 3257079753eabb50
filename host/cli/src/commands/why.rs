//! `charm why`: what led to an event, back to the one from outside, and all that followed from it.

use std::{collections::HashMap, time::Duration};

use clap::Args;

use super::{Context, Heard, ask, turns::span};
use crate::{
    deed::{Deed, unknown_event},
    failure::{Exit, Failure},
    place,
    told::{CommitLine, ConflictLine, Names, Told, WhyLine, WhyTold},
};

/// How deep lines are set in at most.
const DEPTH_MAX: usize = 24;

/// Asks the host that runs, which remembers conflicts of the last hours; without one, reads the store. What has gone with the
/// past of a charm is named as missing.
#[derive(Args)]
pub struct Why {
    /// The event's id, as in its receipt
    id: String,
}

impl Why {
    pub async fn run(&self, context @ (globals, output, _): Context<'_>) -> Result<Exit, Failure> {
        let id = self.id.parse().map_err(|error| Failure::usage(format!("{}: {error}", self.id)))?;
        let (told, remembers) = match ask(context, Deed::Why { id: self.id.clone() }, Duration::MAX).await? {
            Heard::Told(Told::Why(told)) => (*told, "those of the last hours, which the host keeps in memory alone"),
            silent => {
                let archive = place::archive(globals)?;
                let why = archive.why(&id)?.ok_or_else(|| unknown_event(&id))?;
                let remembers = match silent {
                    Heard::NoAnswer(failure) => {
                        output.note(&failure.error);
                        "not told, a host runs, but did not answer"
                    }
                    _ => "not told, only a host that runs remembers them",
                };
                (WhyTold::of(&why, &Names::of(archive.spaces()), false), remembers)
            }
        };
        output.print(&told, || lines(&told, remembers))?;
        Ok(Exit::Done)
    }
}

fn lines(told: &WhyTold, remembers: &str) -> Vec<String> {
    let mut sent: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, line) in told.events.iter().enumerate().skip(1) {
        if let Some(cause) = &line.cause {
            sent.entry(cause).or_default().push(place);
        }
    }
    let mut lines = Vec::new();
    let mut rest = vec![(0, 0)];
    while let Some((place, depth)) = rest.pop() {
        let Some(line) = told.events.get(place) else { continue };
        let indent = "  ".repeat(depth.min(DEPTH_MAX));
        let mark = if place == told.causes { "> " } else { "" };
        lines.push(format!("{indent}{mark}{}", event(line)));
        let parts = line.commits.iter().map(commit).chain(line.conflicts.iter().map(conflict));
        let parts =
            parts.chain(line.misses.iter().map(|miss| format!("wish for {} did not find {}", miss.tag, miss.why)));
        let missing = line.missing.iter().map(|missing| missing_line(missing).to_owned());
        lines.extend(parts.chain(missing).map(|part| format!("{indent}    {part}")));
        let followed = sent.get(line.id.as_str()).into_iter().flatten().rev();
        rest.extend(followed.map(|place| (*place, depth + 1)));
    }
    if told.more > 0 {
        lines.push(format!("{} more events that followed are left out: ask why of one of those above", told.more));
    }
    lines.push(format!("conflicts and wishes: {remembers}"));
    lines
}

fn event(line: &WhyLine) -> String {
    let sender = line.sender.as_ref().map_or("?", |who| who.shown());
    let to = line.to.as_ref().map_or("?", |who| who.shown());
    let stream = line.stream.as_deref().unwrap_or("?");
    let outcome = match (&line.outcome, &line.state) {
        (Some(outcome), _) => {
            let commit = line.commit.map_or(String::new(), |commit| format!(", commit {commit}"));
            let message = line.message.as_ref().map_or(String::new(), |message| format!(": {message}"));
            format!("{outcome}{commit}{message}")
        }
        (None, Some(state)) => format!("not settled: {state}"),
        (None, None) => "unknown".to_owned(),
    };
    let what = match (&line.receipt_of, line.again) {
        (Some(of), _) => format!(" (receipt of {of})"),
        (None, true) => " (sent again by the operator)".to_owned(),
        (None, false) if line.cause.is_none() && !line.missing.iter().any(|missing| missing == "sent") => {
            " (from outside)".to_owned()
        }
        (None, false) => String::new(),
    };
    format!("{} {sender} -> {to}/{stream}{what}  {outcome}", line.id)
}

fn commit(part: &CommitLine) -> String {
    if part.answer {
        return format!("commit {}, the answer to its request", part.commit);
    }
    let CommitLine { commit, segment, retry, after_ms, wait, named, waits_for, timeout_ms, writes, sends, .. } = part;
    if let (Some(number), Some(after)) = (retry, after_ms) {
        return format!("commit {commit}, to be tried again: try {number} more, after {}", span(*after));
    }
    let did = format!("{writes} cells written, {sends} events sent");
    let Some((segment, wait)) = segment.as_ref().zip(wait.as_ref()) else {
        return format!("commit {commit}, the end: {did}");
    };
    if wait == "time" {
        return format!("commit {commit}, segment {segment}: {did}; sleeps {}", span(timeout_ms.unwrap_or(0)));
    }
    if wait == "http" {
        return format!("commit {commit}, segment {segment}: {did}; waits for an answer from outside");
    }
    let more = named.checked_sub(waits_for.len()).filter(|more| *more > 0);
    let more = more.map_or(String::new(), |more| format!(" and {more} more"));
    let (events, timeout) = (waits_for.join(", "), span(timeout_ms.unwrap_or(0)));
    format!("commit {commit}, segment {segment}: {did}; waits for {wait} of {events}{more}, {timeout} at most")
}

fn conflict(met: &ConflictLine) -> String {
    let ConflictLine { count, text, owner, found, winner, .. } = met;
    let won = match (owner, found) {
        (Some(owner), Some(found)) => {
            let event = winner.as_ref().map_or(String::new(), |event| format!(", event {event}"));
            format!("; commit {found} of {} won{event}", owner.shown())
        }
        _ => String::new(),
    };
    format!("ran again {count} times: {text}{won}")
}

fn missing_line(missing: &str) -> &'static str {
    match missing {
        "sent" => "what sent it is not there any more: that past has gone",
        "commits" => "what it did is not there any more: that past has gone",
        "receipt" => "what became of it is not kept any more",
        "causes" => "more led to it than is listed: ask why of the first of these",
        _ => "more commits than are listed",
    }
}
