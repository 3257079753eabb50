//! Figures beside their floors, as a table or as JSON.

use std::fmt;

use serde_json::json;

use crate::scale::Scale;

/// What is aimed at.
pub enum Goal {
    /// Of the ratio, at least.
    AtLeast(f64),
    /// Of the ratio, at most.
    AtMost(f64),
    /// Of the value, at most.
    Value(f64),
    /// Of the value, at most so much more than the floor.
    Beyond(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::AtLeast(ratio) => write!(f, "x >= {ratio}"),
            Goal::AtMost(ratio) => write!(f, "x <= {ratio}"),
            Goal::Value(value) => write!(f, "value <= {value}"),
            Goal::Beyond(more) => write!(f, "value <= floor + {more}"),
        }
    }
}

/// A figure and its floor, both in one unit, one pair a round.
pub struct Figure {
    name: String,
    unit: &'static str,
    /// What the floor is.
    under: &'static str,
    rounds: Vec<(f64, f64)>,
    goal: Option<Goal>,
    note: String,
}

impl Figure {
    pub fn new(name: impl Into<String>, unit: &'static str, under: &'static str) -> Figure {
        Figure { name: name.into(), unit, under, rounds: Vec::new(), goal: None, note: String::new() }
    }

    /// Adds a round.
    pub fn add(&mut self, value: f64, floor: f64) {
        self.rounds.push((value, floor));
    }

    pub fn goal(mut self, goal: Goal) -> Figure {
        self.goal = Some(goal);
        self
    }

    /// Says more beside the figure.
    pub fn note(mut self, note: String) -> Figure {
        self.note = note;
        self
    }

    /// Says of which of several floors the floor is.
    pub fn under(mut self, under: &'static str) -> Figure {
        self.under = under;
        self
    }
}

/// Returns the middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the value that so many hundredths of all are at most.
pub fn percentile(figures: &mut [f64], hundredths: usize) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get((figures.len() * hundredths / 100).min(figures.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Prints figures as they come.
pub struct Report {
    is_json: bool,
    scale: Scale,
    names: Vec<String>,
}

impl Report {
    pub fn new(is_json: bool, scale: Scale) -> Report {
        if !is_json && scale != Scale::Smoke {
            println!(
                "every figure is the median of its rounds; x = figure / floor, with the least and the most of a round\n"
            );
            println!(
                "{:<36} {:>8} {:<8} {:>8} {:<26} {:>6} {:<15} {:<19} notes",
                "figure", "value", "unit", "floor", "which is", "x", "", "goal"
            );
        }
        Report { is_json, scale, names: Vec::new() }
    }

    /// Says something of the table; JSON has figures only.
    pub fn say(&self, text: &str) {
        if !self.is_json && self.scale != Scale::Smoke {
            println!("{text}");
        }
    }

    pub fn add(&mut self, figure: Figure) {
        let Figure { name, unit, under, rounds, goal, note } = figure;
        let of = |pick: fn(&(f64, f64)) -> f64| rounds.iter().map(pick).collect::<Vec<_>>();
        let (value, floor, ratios) =
            (median(of(|round| round.0)), median(of(|round| round.1)), of(|round| round.0 / round.1));
        let (low, high) = ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
        let ratio = median(ratios);
        let goal = goal.map(|goal| goal.to_string()).unwrap_or_default();
        if self.scale == Scale::Smoke {
            assert!(value.is_finite() && floor.is_finite(), "{name}: {value} over {floor}");
        } else if self.is_json {
            let [name, unit, under, goal, note] = [name.as_str(), unit, under, &goal, &note].map(|text| json!(text));
            let [value, floor, ratio, low, high] = [value, floor, ratio, low, high].map(rounded);
            println!(
                "{{\"name\":{name},\"value\":{value},\"unit\":{unit},\"floor\":{floor},\"floor_is\":{under},\"ratio\":{ratio},\
                 \"low\":{low},\"high\":{high},\"rounds\":{},\"goal\":{goal},\"note\":{note}}}",
                rounds.len()
            );
        } else {
            let range = if rounds.len() > 1 { format!("({low:.2}-{high:.2})") } else { String::new() };
            println!(
                "{name:<36} {:>8} {unit:<8} {:>8} {under:<26} {ratio:>6.2} {range:<15} {goal:<19} {note}",
                short(value),
                short(floor)
            );
        }
        self.names.push(name);
    }

    /// Returns whether a figure's name begins so.
    pub fn begins_with(&self, name: &str) -> bool {
        self.names.iter().any(|given| given.starts_with(name))
    }
}

/// Four digits are more than a run can say.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
