//! The options of a stream table: how statements spell them, what values they take, how `pg_class.reloptions` keeps them.
//!
//! `WITH (pg_trickle.schedule = '30s')` and `WITH ("pg_trickle.schedule" = '30s')`, as pg_dump writes it, are the same.

use super::pinned;
use crate::error::{Report, cannot_happen, error};
use crate::pg::statement::{OptionChange, RawOption};
use crate::pg::{clock, identity, reloptions};
use crate::schedule::spec;
use crate::wakeup;
use pgrx::{PgSqlErrorCode, pg_sys};

pub const PREFIX: &str = "pg_trickle.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshMode {
    Auto,
    Differential,
    Full,
}

impl RefreshMode {
    pub fn as_str(self) -> &'static str {
        match self {
            RefreshMode::Auto => "AUTO",
            RefreshMode::Differential => "DIFFERENTIAL",
            RefreshMode::Full => "FULL",
        }
    }
}

/// How a view stands to the stream tables it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// It may lag behind them, as its schedule says.
    Schedule,
    /// It is refreshed whenever one of them is, in the same transaction.
    Snapshot,
}

/// Our options in force on a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub incremental: bool,
    pub schedule: String,
    pub refresh_mode: RefreshMode,
    pub cdc_mode: String,
    pub consistency: Consistency,
    /// Scheduled refreshes that change rows are told to those who listen.
    pub notify: bool,
    /// Settings to pin, as a dump carries them.
    pub settings: Option<Vec<String>>,
}

/// Our options as stored: (bare name, value), in the order they were first set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored(Vec<(String, String)>);

impl Stored {
    /// Ours among a view's options.
    pub fn read(relid: pg_sys::Oid) -> Self {
        Self(reloptions::read(relid).iter().filter_map(|option| split_ours(option)).collect())
    }

    /// Puts ours back beside the server's.
    pub fn write(&self, relid: pg_sys::Oid) {
        let mut all: Vec<String> = reloptions::read(relid).into_iter().filter(|o| split_ours(o).is_none()).collect();
        all.extend(self.0.iter().map(|(name, value)| format!("{PREFIX}{name}={value}")));
        reloptions::write(relid, all);
        wakeup::graph_changed();
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    pub fn reset(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    /// Applies the options of a WITH or SET list; values are checked.
    pub fn apply(&mut self, options: &[RawOption]) {
        let mut given = Vec::new();
        for (name, option) in options.iter().filter_map(|option| Some((bare(option)?, option))) {
            if given.contains(&name) {
                let message = format!("parameter \"{PREFIX}{name}\" specified more than once");
                error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).raise()
            }
            let value = checked(&name, option.value.as_deref()).unwrap_or_else(|report| report.raise());
            self.set(&name, &value);
            given.push(name);
        }
    }

    /// Applies what an ALTER says, in order.
    pub fn change(&mut self, changes: &[OptionChange]) {
        for change in changes {
            match change {
                OptionChange::Set(options) => self.apply(options),
                OptionChange::Reset(options) => options.iter().filter(|o| is_ours(o)).for_each(|o| self.reset_by(o)),
            }
        }
    }

    fn reset_by(&mut self, option: &RawOption) {
        let name = bare(option).unwrap_or_default();
        require_known(&name).unwrap_or_else(|report| report.raise());
        if option.value.is_some() {
            error(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "RESET must not include values for parameters").raise()
        }
        self.reset(&name);
    }

    /// Nothing but perhaps `incremental = false`.
    pub fn says_nothing(&self) -> bool {
        self.0.iter().all(|(name, value)| name == "incremental" && value == "false")
    }

    /// What the stored options mean. Values were checked when stored.
    pub fn options(&self) -> Options {
        Options {
            incremental: self.get("incremental") == Some("true"),
            schedule: self.get("schedule").unwrap_or("calculated").to_owned(),
            refresh_mode: match self.get("refresh_mode") {
                Some("DIFFERENTIAL") => RefreshMode::Differential,
                Some("FULL") => RefreshMode::Full,
                _ => RefreshMode::Auto,
            },
            cdc_mode: self.get("cdc_mode").unwrap_or("auto").to_owned(),
            consistency: match self.get("consistency") {
                Some("snapshot") => Consistency::Snapshot,
                _ => Consistency::Schedule,
            },
            notify: self.get("notify") == Some("true"),
            settings: self
                .get("settings")
                .map(|text| pinned::decode(text).unwrap_or_else(|_| cannot_happen("stored settings are malformed"))),
        }
    }
}

/// The bare name of one of our options, in either spelling.
pub fn bare(option: &RawOption) -> Option<String> {
    match option.namespace.as_deref() {
        Some("pg_trickle") => Some(option.name.clone()),
        Some(_) => None,
        None => option.name.strip_prefix(PREFIX).map(str::to_owned),
    }
}

pub fn is_ours(option: &RawOption) -> bool {
    bare(option).is_some()
}

fn split_ours(option: &str) -> Option<(String, String)> {
    let (name, value) = option.strip_prefix(PREFIX)?.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

const NAMES: &[&str] = &["incremental", "schedule", "refresh_mode", "cdc_mode", "consistency", "notify", "settings"];

fn require_known(name: &str) -> Result<(), Report> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    let names: Vec<String> = NAMES.iter().map(|name| format!("{PREFIX}{name}")).collect();
    Err(error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("unrecognized parameter \"{PREFIX}{name}\""))
        .hint(format!("Parameters of a stream table are {}.", names.join(", "))))
}

/// The canonical form of a value, or the error it deserves.
pub fn checked(name: &str, value: Option<&str>) -> Result<String, Report> {
    require_known(name)?;
    match (name, value) {
        ("incremental" | "notify", value) => boolean(name, value.unwrap_or("true")).map(|on| on.to_string()),
        (_, None) => Err(invalid(name, "", format!("Parameter \"{PREFIX}{name}\" needs a value."), hint_of(name))),
        ("schedule", Some(value)) => schedule(value),
        ("refresh_mode", Some(value)) => refresh_mode(value),
        ("cdc_mode", Some(value)) => cdc_mode(value),
        ("consistency", Some(value)) => consistency(value),
        (_, Some(value)) => settings(value),
    }
}

fn invalid(name: &str, value: &str, detail: impl Into<String>, hint: &str) -> Report {
    let message = format!("invalid value for parameter \"{PREFIX}{name}\": \"{value}\"");
    error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).detail(detail).hint(hint)
}

const MODES: &str = "Values are AUTO, DIFFERENTIAL and FULL.";
const CDC_MODES: &str = "Values are auto and trigger.";
const CONSISTENCIES: &str = "Values are schedule and snapshot.";

fn hint_of(name: &str) -> &'static str {
    match name {
        "schedule" => spec::HINT,
        "refresh_mode" => MODES,
        "cdc_mode" => CDC_MODES,
        "consistency" => CONSISTENCIES,
        _ => pinned::HINT,
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, Report> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" | "t" | "y" => Ok(true),
        "false" | "off" | "no" | "0" | "f" | "n" => Ok(false),
        _ => Err(invalid(name, value, "The parameter is boolean.", "Values are true and false.")),
    }
}

fn schedule(value: &str) -> Result<String, Report> {
    let read = spec::parse(value).map(|_| value.trim().to_owned());
    let interval = || Some(value).filter(|value| spec::may_be_interval(value)).and_then(clock::interval);
    let or_interval = |detail| interval().map_or(Err(detail), spec::of_interval);
    read.or_else(or_interval).map_err(|detail| invalid("schedule", value, detail, spec::HINT))
}

fn refresh_mode(value: &str) -> Result<String, Report> {
    let mode = value.to_ascii_uppercase();
    match mode.as_str() {
        "AUTO" | "DIFFERENTIAL" | "FULL" => Ok(mode),
        "IMMEDIATE" => Err(unsupported("refresh mode IMMEDIATE is not supported yet")
            .detail("A stream table is refreshed by REFRESH MATERIALIZED VIEW or on its schedule.")
            .hint("Use AUTO, DIFFERENTIAL or FULL.")),
        _ => Err(invalid("refresh_mode", value, format!("\"{value}\" is not a refresh mode."), MODES)),
    }
}

fn cdc_mode(value: &str) -> Result<String, Report> {
    let mode = value.to_ascii_lowercase();
    match mode.as_str() {
        "auto" | "trigger" => Ok(mode),
        "wal" => Err(unsupported("capture mode wal is not supported yet")
            .detail("Changes are captured by triggers.")
            .hint("Use auto or trigger.")),
        _ => Err(invalid("cdc_mode", value, format!("\"{value}\" is not a capture mode."), CDC_MODES)),
    }
}

fn consistency(value: &str) -> Result<String, Report> {
    let consistency = value.to_ascii_lowercase();
    match consistency.as_str() {
        "schedule" | "snapshot" => Ok(consistency),
        _ => Err(invalid("consistency", value, format!("\"{value}\" is not a kind of consistency."), CONSISTENCIES)),
    }
}

fn settings(value: &str) -> Result<String, Report> {
    match pinned::decode(value) {
        Ok(settings) => {
            settings
                .iter()
                .filter_map(|s| s.split_once('='))
                .for_each(|(name, value)| identity::check_setting(name, value));
            Ok(pinned::encode(&settings))
        }
        Err(detail) => Err(invalid("settings", value, detail, pinned::HINT)),
    }
}

pub fn unsupported(message: &str) -> Report {
    error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
}
