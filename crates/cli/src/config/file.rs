//! Reading `onefold.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{ConfigError, SETTINGS};

/// The settings of a file, as texts.
#[derive(Default)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

struct Value {
    text: String,
    line: usize,
}

impl ConfigFile {
    /// Reads settings from the text of a file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<ConfigFile, ConfigError> {
        let at = |offset: usize, what: String| ConfigError::Line {
            path: path.to_owned(),
            line: line_of(text, offset),
            what,
        };
        // The error's own display quotes the line, which may hold a token.
        let table = DeTable::parse(text)
            .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let mut values = BTreeMap::new();
        for (key, value) in table.into_inner() {
            let start = key.span().start;
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == *key.get_ref()) else {
                return Err(at(start, unknown(key.get_ref())));
            };
            let value = match value.into_inner() {
                DeValue::String(text) => text.into_owned(),
                DeValue::Integer(number) => number.as_str().to_owned(),
                _ => {
                    return Err(at(start, format!("`{}` must be a text in quotes or a number", setting.key)));
                }
            };
            values.insert(setting.key.to_owned(), Value { text: value, line: line_of(text, start) });
        }
        Ok(ConfigFile { path: path.to_owned(), values })
    }

    /// The value of a setting and where it stands.
    pub(crate) fn get(&self, key: &str) -> Option<(&str, String)> {
        let value = self.values.get(key)?;
        Some((&value.text, format!("{} line {}, `{key}`", self.path.display(), value.line)))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn unknown(key: &str) -> String {
    let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    format!("there is no setting `{key}`; there are {}", known.join(", "))
}
