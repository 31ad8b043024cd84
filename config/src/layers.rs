//! The layers settings come from, merged: default, file, environment, and what development adds.
//!
//! Each value remembers where it came from, so that an error names what the person wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::error::SettingsError;
use crate::keys::{KEYS, Shown, key};

/// The compiled-in defaults, which are also the documentation of every setting.
pub(crate) const DEFAULT: &str = include_str!("../default.toml");

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Environment(&'static str),
    /// Filled in for `cargo run`, or set by the program.
    Filled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    Text(String),
    List(Vec<String>),
}

impl Raw {
    fn is_set(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
        }
    }
}

/// Every setting's effective value and origin, by key path.
#[derive(Clone)]
pub(crate) struct Layers {
    values: BTreeMap<String, (Raw, Origin)>,
}

impl Layers {
    /// Merges defaults, the file named by `HUB_CONFIG`, and the environment.
    pub(crate) fn merge(env: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut layers = Self::defaults();
        if let Some(file) = env("HUB_CONFIG").filter(|file| !file.trim().is_empty()) {
            layers.overlay_file(Path::new(&file))?;
        }
        layers.overlay_environment(env);
        Ok(layers)
    }

    fn defaults() -> Self {
        let table: Table = DEFAULT
            .parse()
            .expect("default.toml is compiled in and a test parses it");
        let mut values = BTreeMap::new();
        flatten("", table, &mut |path, value| {
            let raw = raw(value).expect("default.toml holds texts, numbers, switches and lists");
            values.insert(path, (raw, Origin::Default));
            Ok(())
        })
        .expect("collecting does not fail");
        Self { values }
    }

    fn overlay_file(&mut self, file: &Path) -> Result<(), SettingsError> {
        let unusable = |reason: String| SettingsError::File {
            file: file.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
        // Only the message: the parser's full report quotes the line, which may hold a secret.
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| {
                text.bytes()
                    .take(span.start)
                    .filter(|b| *b == b'\n')
                    .count()
                    + 1
            });
            unusable(format!("line {line}: {}", error.message()))
        })?;
        flatten("", table, &mut |path, value| {
            let Some((slot, origin)) = self.values.get_mut(&path) else {
                return Err(SettingsError::UnknownKey {
                    key: path,
                    file: file.to_owned(),
                });
            };
            let wants_list = matches!(slot, Raw::List(_));
            match raw(value) {
                Some(new) if matches!(new, Raw::List(_)) == wants_list => *slot = new,
                _ => {
                    return Err(SettingsError::File {
                        file: file.to_owned(),
                        reason: if wants_list {
                            format!("{path} must be a list of texts")
                        } else {
                            format!("{path} must be one text, number or switch")
                        },
                    });
                }
            }
            *origin = Origin::File(file.to_owned());
            Ok(())
        })
    }

    fn overlay_environment(&mut self, env: impl Fn(&str) -> Option<String>) {
        for key in KEYS {
            let found = key.names.iter().find_map(|name| {
                let value = env(name)?;
                (!value.trim().is_empty()).then_some((*name, value))
            });
            let Some((name, value)) = found else { continue };
            if let Some((slot, origin)) = self.values.get_mut(key.path) {
                *slot = match slot {
                    Raw::List(_) => Raw::List(
                        value
                            .split(',')
                            .map(|item| item.trim().to_owned())
                            .filter(|item| !item.is_empty())
                            .collect(),
                    ),
                    // A secret is taken as written: existing data depends on every byte of it.
                    Raw::Text(_) if key.shown == Shown::Masked => Raw::Text(value),
                    Raw::Text(_) => Raw::Text(value.trim().to_owned()),
                };
                *origin = Origin::Environment(name);
            }
        }
    }

    /// Sets a value from inside the program.
    pub(crate) fn fill(&mut self, path: &str, value: &str) {
        let value = match self.entry(path).0 {
            Raw::List(_) => Raw::List(vec![value.to_owned()]),
            Raw::Text(_) => Raw::Text(value.to_owned()),
        };
        self.values.insert(path.to_owned(), (value, Origin::Filled));
    }

    /// Whether somebody chose this value: it is set, and not by `default.toml`.
    pub(crate) fn is_chosen(&self, path: &str) -> bool {
        let (raw, origin) = self.entry(path);
        raw.is_set() && *origin != Origin::Default
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.values.contains_key(path)
    }

    pub(crate) fn entry(&self, path: &str) -> &(Raw, Origin) {
        self.values
            .get(path)
            .expect("keys are constants of this crate; loading reads each of them")
    }

    /// An error about this value, in the words of whoever set it.
    pub(crate) fn invalid(&self, path: &str, expected: &'static str) -> SettingsError {
        let (raw, origin) = self.entry(path);
        let name = match origin {
            Origin::Environment(name) => (*name).to_owned(),
            Origin::File(file) => format!("{path} in {}", file.display()),
            Origin::Default | Origin::Filled => path.to_owned(),
        };
        match (key(path).map(|key| key.shown), raw) {
            (Some(Shown::Plain), Raw::Text(value)) => SettingsError::Value {
                name,
                value: value.clone(),
                expected,
            },
            (Some(Shown::Plain), Raw::List(items)) => SettingsError::Value {
                name,
                value: items.join(","),
                expected,
            },
            _ => SettingsError::SecretValue { name, expected },
        }
    }

    /// One line per setting, secrets masked.
    pub(crate) fn describe(&self) -> Vec<String> {
        KEYS.iter()
            .map(|key| {
                let (raw, origin) = self.entry(key.path);
                let value = match raw {
                    raw if !raw.is_set() => "(not set)".to_owned(),
                    Raw::List(items) => items.join(", "),
                    Raw::Text(text) => match key.shown {
                        Shown::Plain => text.clone(),
                        Shown::Masked => format!("(secret, {} bytes)", text.len()),
                        Shown::MaskedUrl => mask_url(text),
                    },
                };
                let origin = match origin {
                    Origin::Default => "default".to_owned(),
                    Origin::File(file) => file.display().to_string(),
                    Origin::Environment(name) => (*name).to_owned(),
                    Origin::Filled => "development".to_owned(),
                };
                format!("{} = {value}  [{origin}]", key.path)
            })
            .collect()
    }
}

fn mask_url(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) => {
            if url.password().is_some() && url.set_password(Some("***")).is_err() {
                return "(secret)".to_owned();
            }
            // Parameters may carry a password too.
            if url.query_pairs().any(|(name, _)| name == "password") {
                url.set_query(Some("***"));
            }
            url.to_string()
        }
        Err(_) => "(secret)".to_owned(),
    }
}

/// Visits every leaf of a table with its dotted path.
fn flatten(
    prefix: &str,
    table: Table,
    visit: &mut impl FnMut(String, Value) -> Result<(), SettingsError>,
) -> Result<(), SettingsError> {
    for (name, value) in table {
        let path = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(table) => flatten(&path, table, visit)?,
            leaf => visit(path, leaf)?,
        }
    }
    Ok(())
}

fn raw(value: Value) -> Option<Raw> {
    match value {
        Value::String(text) => Some(Raw::Text(text)),
        Value::Integer(number) => Some(Raw::Text(number.to_string())),
        Value::Boolean(switch) => Some(Raw::Text(switch.to_string())),
        Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(Raw::List),
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}
