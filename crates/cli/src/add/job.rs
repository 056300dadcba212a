//! Jobs as they are sent: what the flags say, and each one's payload.

use onefold_wire::{Headers, NewJob, RawValue, Span, Target, Text};
use serde_json::Value;

/// What every job of a command has in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Template {
    pub(super) kind: Option<String>,
    pub(super) key: Option<String>,
    pub(super) key_from: Option<String>,
    pub(super) delay: Option<String>,
    pub(super) run_at: Option<String>,
    pub(super) priority: Option<i16>,
    pub(super) group: Option<String>,
    pub(super) labels: Vec<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) target: Option<String>,
    pub(super) target_method: Option<String>,
    pub(super) target_headers: Vec<(String, String)>,
    pub(super) target_timeout: Option<String>,
    pub(super) on_success: Option<String>,
    pub(super) on_failure: Option<String>,
    pub(super) max_attempts: Option<u32>,
    pub(super) timeout: Option<String>,
}

/// Why a payload cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadPayload {
    #[error("it is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("it has no field {0:?} to take the key from")]
    NoKey(String),
    #[error("its field {0:?} cannot be a key: only texts and numbers can")]
    KeyType(String),
}

impl Template {
    /// The JSON text of a job.
    pub(super) fn job(&self, payload: Option<&str>) -> Result<String, BadPayload> {
        let payload: Option<&RawValue> =
            payload.map(serde_json::from_str).transpose().map_err(BadPayload::NotJson)?;
        let key = match &self.key_from {
            Some(field) => Some(key_of(payload, field)?),
            None => self.key.clone(),
        };
        let text = |text: &Option<String>| text.clone().map(Text::from);
        let job = NewJob {
            kind: text(&self.kind),
            payload,
            key: key.map(Text::from),
            delay: self.delay.clone().map(Span::from),
            run_at: text(&self.run_at),
            priority: self.priority,
            group: text(&self.group),
            labels: some(self.labels.iter().map(|label| Text::from(label.as_str())).collect()),
            headers: headers(&self.headers),
            target: self.target.as_deref().map(|url| Target {
                url: Text::from(url),
                method: text(&self.target_method),
                headers: headers(&self.target_headers),
                timeout: self.target_timeout.clone().map(Span::from),
            }),
            on_success: callback(self.on_success.as_ref()),
            on_failure: callback(self.on_failure.as_ref()),
            max_attempts: self.max_attempts,
            timeout: self.timeout.clone().map(Span::from),
            ..NewJob::default()
        };
        serde_json::to_string(&job).map_err(BadPayload::NotJson)
    }
}

fn headers(pairs: &[(String, String)]) -> Option<Headers<'_>> {
    some(pairs.iter().map(|(n, v)| (Text::from(n.as_str()), Text::from(v.as_str()))).collect()).map(Headers)
}

fn callback(url: Option<&String>) -> Option<Target<'_>> {
    url.map(|url| Target { url: Text::from(url.as_str()), ..Target::default() })
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// A field of the payload as a key: texts as they are, numbers as they are written.
fn key_of(payload: Option<&RawValue>, field: &str) -> Result<String, BadPayload> {
    let missing = || BadPayload::NoKey(field.to_owned());
    let members: std::collections::HashMap<String, &RawValue> =
        payload.and_then(|payload| serde_json::from_str(payload.get()).ok()).ok_or_else(missing)?;
    let raw = members.get(field).ok_or_else(missing)?.get();
    match serde_json::from_str(raw) {
        Ok(Value::String(text)) => Ok(text),
        Ok(Value::Number(_)) => Ok(raw.to_owned()),
        _ => Err(BadPayload::KeyType(field.to_owned())),
    }
}

/// Parses `NAME:VALUE`.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write a header like Name:value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(payload: &str) -> Result<String, BadPayload> {
        Template { key_from: Some("id".to_owned()), ..Template::default() }.job(Some(payload))
    }

    #[test]
    fn a_key_is_a_text_or_a_number_as_it_was_written() {
        assert_eq!(keyed(r#"{"id":"a\n"}"#).unwrap(), r#"{"payload":{"id":"a\n"},"key":"a\n"}"#);
        assert_eq!(keyed(r#"{"id":1.50}"#).unwrap(), r#"{"payload":{"id":1.50},"key":"1.50"}"#);
        for bad in [r#"{"id":null}"#, r#"{"id":[1]}"#] {
            assert!(matches!(keyed(bad), Err(BadPayload::KeyType(_))), "{bad}");
        }
        for bad in [r#"{"ID":1}"#, "7", "[]"] {
            assert!(matches!(keyed(bad), Err(BadPayload::NoKey(_))), "{bad}");
        }
        assert!(matches!(keyed("{"), Err(BadPayload::NotJson(_))));
    }

    #[test]
    fn the_payload_is_sent_as_it_was_written() {
        let job = Template::default().job(Some("{ \"a\" : 1.0 }")).unwrap();
        assert_eq!(job, "{\"payload\":{ \"a\" : 1.0 }}");
        assert_eq!(Template::default().job(None).unwrap(), "{}");
    }
}
