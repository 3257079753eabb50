//! What the calendar showed when. Only dates stand in the log; what is due is measured on the clock that never goes back (S10):
//! from here the model knows which moments a date may stand for. Where there are several, the kindest counts.

use std::time::Duration;

/// 2026-01-01T00:00:00Z.
pub const START_MS: u64 = 1_767_225_600_000;

/// Every setting of the calendar, in order.
#[derive(Clone, Default)]
pub struct Calendar {
    settings: Vec<Setting>,
}

/// From some moment on the calendar shows so much beyond the clock that never goes back, in milliseconds.
#[derive(Clone, Copy, Default)]
struct Setting {
    from: i64,
    beyond: i64,
    /// The process that runs, by its number.
    process: usize,
}

/// A moment, in milliseconds since the start, and the setting of the calendar then.
#[derive(Clone, Copy)]
struct At {
    moment: i64,
    setting: usize,
}

impl Calendar {
    /// Returns the date at a moment.
    pub fn date(&self, now: Duration) -> u64 {
        let beyond = self.settings.last().map_or(0, |setting| setting.beyond);
        (START_MS + now.as_millis() as u64).saturating_add_signed(beyond)
    }

    /// A process starts.
    pub fn start(&mut self, now: Duration) {
        let Setting { beyond, process, .. } = self.settings.last().copied().unwrap_or_default();
        self.settings.push(Setting { from: now.as_millis() as i64, beyond, process: process + 1 });
    }

    /// Somebody sets the calendar.
    pub fn set(&mut self, now: Duration, beyond: i64) {
        let process = self.settings.last().map_or(0, |setting| setting.process);
        self.settings.push(Setting { from: now.as_millis() as i64, beyond, process });
    }

    /// Returns the moments that a date may stand for.
    fn moments(&self, date: u64) -> impl Iterator<Item = At> + Clone {
        let ends = self.settings.iter().skip(1).map(|next| next.from).chain([i64::MAX]);
        let settings = self.settings.iter().zip(ends).enumerate();
        settings.filter_map(move |(setting, (Setting { from, beyond, .. }, end))| {
            let moment = date as i64 - START_MS as i64 - beyond;
            (*from <= moment && moment <= end).then_some(At { moment, setting })
        })
    }

    /// Returns the moments that two dates may stand for, of commits in this order.
    fn both(&self, first: u64, second: u64) -> impl Iterator<Item = (At, At)> {
        let seconds = self.moments(second);
        self.moments(first).flat_map(move |first| {
            let after = seconds.clone();
            after
                .filter(move |second| first.setting <= second.setting && first.moment <= second.moment)
                .map(move |second| (first, second))
        })
    }

    fn process(&self, at: At) -> usize {
        self.settings[at.setting].process
    }

    /// Returns how the process of `then` found the calendar.
    fn found(&self, then: At) -> Setting {
        let process = self.process(then);
        self.settings.iter().find(|setting| setting.process == process).copied().unwrap_or_default()
    }

    /// Returns the moment that a time of the wall stands for, as the process of `then` measures it that knows it since `since`.
    fn due(&self, time: u64, since: At, then: At) -> i64 {
        let same = self.process(since) == self.process(then);
        let beyond = if same { self.settings[since.setting].beyond } else { self.found(then).beyond };
        time as i64 - START_MS as i64 - beyond
    }

    /// Returns whether a time that was committed at the date `since` may have come at the date `then`.
    pub fn may_be_due(&self, time: u64, since: u64, then: u64) -> bool {
        self.both(since, then).any(|(since, then)| self.due(time, since, then) <= then.moment)
    }

    /// Returns whether it may be still to come. It has a millisecond more: dates are cut off to whole ones.
    pub fn may_be_to_come(&self, time: u64, since: u64, then: u64) -> bool {
        self.both(since, then).any(|(since, then)| then.moment <= self.due(time, since, then))
    }

    /// Returns whether so many milliseconds may have passed from one commit to another. A process that finds the calendar set back
    /// lets them pass once more.
    pub fn may_have_passed(&self, ms: u64, since: u64, then: u64) -> bool {
        let time = since + ms;
        self.both(since, then).any(|(since, then)| {
            let due = self.due(time, since, then);
            let once_more = self.found(then).from + ms as i64;
            let due = if self.process(since) == self.process(then) { due } else { due.min(once_more) };
            due <= then.moment
        })
    }

    /// Returns whether what began at the date `begun` may have begun before the commit at the date `then`, or in another process.
    pub fn may_have_begun(&self, begun: u64, then: u64) -> bool {
        let mut moments = self.moments(begun);
        moments.any(|begun| {
            let mut then = self.moments(then);
            then.any(|then| begun.moment <= then.moment || self.process(begun) > self.process(then))
        })
    }
}
