//! The conditions of a status.

use serde_json::Value;

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    True,
    False,
    Unknown,
}

/// One condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition<'a> {
    kind: &'a str,
    pub(super) state: State,
    pub(super) reason: &'a str,
    message: &'a str,
}

impl Condition<'_> {
    /// Its message, else its reason, else its name.
    pub(super) fn why(&self) -> String {
        match (self.message, self.reason) {
            ("", "") => format!("condition {} is {:?}", self.kind, self.state),
            ("", reason) => format!("{}: {reason}", self.kind),
            (message, _) => format!("{}: {}", self.kind, message.trim_end_matches('.')),
        }
    }
}

/// All conditions of an object.
#[derive(Debug)]
pub(super) struct Conditions<'a>(Vec<Condition<'a>>);

impl<'a> Conditions<'a> {
    pub(super) fn of(object: &'a Value) -> Self {
        let list = object
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let conditions = list.into_iter().flatten().map(|condition| {
            let text = |key: &str| {
                condition
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            Condition {
                kind: text("type"),
                state: match text("status") {
                    "True" => State::True,
                    "False" => State::False,
                    _ => State::Unknown,
                },
                reason: text("reason"),
                message: text("message"),
            }
        });
        Self(conditions.collect())
    }

    pub(super) fn get(&self, kind: &str) -> Option<Condition<'a>> {
        self.0
            .iter()
            .find(|condition| condition.kind == kind)
            .copied()
    }

    pub(super) fn with(&self, kind: &str, state: State) -> Option<Condition<'a>> {
        self.get(kind).filter(|condition| condition.state == state)
    }
}
