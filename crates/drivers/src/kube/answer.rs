//! What an API server says when it does not do what it was asked: its Status object,
//! and what that means in the model's words. The texts of the API server quote the
//! object now and then: of a Secret, only codes and field names are passed on.

use serde::Deserialize;
use serde_json::Value;
use trueup_model::port::{ApplyRefusal, ClusterError};

use super::wire::{Fault, Reply};

/// Longest message that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 600;

/// How a refusal by the schema begins, whatever its code.
const NOT_TYPED: &str = "failed to create typed patch object";

/// `Status` of meta/v1, as far as it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) details: Details,
}

/// `StatusDetails`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    pub(crate) kind: String,
    pub(crate) causes: Vec<Cause>,
}

/// `StatusCause`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Cause {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) field: String,
}

/// Whether the texts of the server may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quote {
    /// Yes.
    Yes,
    /// No: they could quote a Secret.
    No,
}

impl Quote {
    /// For an object of this kind.
    pub(crate) fn of_kind(kind: &str) -> Self {
        if kind == "Secret" {
            Self::No
        } else {
            Self::Yes
        }
    }
}

impl Status {
    /// The Status of a reply; of a reply that holds none (a proxy's page, plain text
    /// of `/readyz`), its code and the beginning of its text.
    pub(crate) fn of(reply: &Reply) -> Self {
        let mut status: Self = serde_json::from_slice(&reply.body).unwrap_or_else(|_| Self {
            message: String::from_utf8_lossy(&reply.body).into_owned(),
            ..Self::default()
        });
        status.code = reply.code;
        status
    }

    /// The message to show.
    pub(crate) fn text(&self, quote: Quote) -> String {
        match quote {
            Quote::Yes => capped(&self.message),
            Quote::No => {
                let fields: Vec<&str> = self
                    .details
                    .causes
                    .iter()
                    .map(|cause| cause.field.as_str())
                    .filter(|field| !field.is_empty())
                    .collect();
                let what = if self.reason.is_empty() {
                    "an error"
                } else {
                    &self.reason
                };
                if fields.is_empty() {
                    format!("{} {what} (the text could quote the Secret)", self.code)
                } else {
                    let fields = capped(&fields.join(", "));
                    format!(
                        "{} {what}: {fields} (the text could quote the Secret)",
                        self.code
                    )
                }
            }
        }
    }

    fn has_cause(&self, reason: &str) -> bool {
        self.details
            .causes
            .iter()
            .any(|cause| cause.reason == reason)
    }

    /// Managers that own fields which the apply wanted.
    fn conflicts(&self) -> Vec<(String, String)> {
        self.details
            .causes
            .iter()
            .filter(|cause| cause.reason == "FieldManagerConflict")
            .map(|cause| {
                let field = cause.field.trim_start_matches('.').to_owned();
                (manager_of(&cause.message), field)
            })
            .collect()
    }

    /// What a refused apply means.
    pub(crate) fn refusal(&self, quote: Quote) -> ApplyRefusal {
        let text = self.text(quote);
        match self.code {
            409 => {
                let conflicts = self.conflicts();
                if conflicts.is_empty() {
                    ApplyRefusal::Later(text)
                } else {
                    ApplyRefusal::Conflict(conflicts)
                }
            }
            404 => ApplyRefusal::NotYet(text),
            // The namespace goes away and comes back: neither a matter of rights.
            403 if self.has_cause("NamespaceTerminating") => ApplyRefusal::Later(text),
            401 | 403 => ApplyRefusal::Forbidden(text),
            400 | 405 | 406 | 413 | 415 | 422 => ApplyRefusal::Invalid(text),
            // Server-side apply answers so to an unknown field or a wrong type (seen
            // with 1.36); it is no fault of the server.
            500 if self.message.starts_with(NOT_TYPED) => ApplyRefusal::Invalid(text),
            _ => ApplyRefusal::Later(format!("{} {text}", self.code)),
        }
    }

    /// The error for everything else.
    pub(crate) fn error(&self, what: &str, quote: Quote) -> ClusterError {
        let conflicts = self.conflicts();
        if self.code == 409 && !conflicts.is_empty() {
            return ClusterError::Conflict {
                what: what.to_owned(),
                fields: conflicts,
            };
        }
        ClusterError::Status {
            what: what.to_owned(),
            code: self.code,
            reason: self.reason.clone(),
            message: self.text(quote),
        }
    }
}

/// `conflict with "kubectl" using apps/v1` names the manager in quotes.
fn manager_of(message: &str) -> String {
    message
        .split('"')
        .nth(1)
        .filter(|manager| !manager.is_empty())
        .map_or_else(|| "another manager".to_owned(), str::to_owned)
}

fn capped(text: &str) -> String {
    let text = text.trim();
    if text.chars().count() <= MESSAGE_CHARS_MAX {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
    cut.push('…');
    cut
}

/// A missing reply to an apply.
pub(crate) fn refusal_of(fault: Fault) -> ApplyRefusal {
    match fault {
        Fault::NotSent(why) => ApplyRefusal::Later(why),
        Fault::Lost(why) => ApplyRefusal::Unknown(why),
        Fault::Credential(why) => ApplyRefusal::Forbidden(why),
    }
}

/// A missing reply to anything else.
pub(crate) fn error_of(cluster: &str, what: &str, fault: Fault) -> ClusterError {
    match fault {
        Fault::NotSent(why) => ClusterError::Unreachable {
            cluster: cluster.to_owned(),
            why,
        },
        Fault::Lost(why) => ClusterError::Lost {
            what: what.to_owned(),
            why,
        },
        Fault::Credential(why) => ClusterError::Credential {
            cluster: cluster.to_owned(),
            why,
        },
    }
}

/// The JSON of a good reply.
pub(crate) fn json_of(reply: &Reply, what: &str) -> Result<Value, ClusterError> {
    serde_json::from_slice(&reply.body).map_err(|error| ClusterError::Status {
        what: what.to_owned(),
        code: reply.code,
        reason: "NotJson".to_owned(),
        // serde's text for syntax errors quotes nothing of a Value.
        message: format!("the reply is no JSON: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(code: u16, body: Value) -> Status {
        Status::of(&Reply {
            code,
            body: body.to_string().into_bytes(),
        })
    }

    #[test]
    fn what_answers_mean() {
        let conflict = json!({"reason": "Conflict", "message": "m", "details": {"causes": [{
            "reason": "FieldManagerConflict", "field": ".spec.replicas",
            "message": "conflict with \"kubectl\" with subresource \"scale\" using apps/v1"}]}});
        let terminating = json!({"reason": "Forbidden", "message": "m", "details": {"causes": [
            {"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}});
        let plain = json!({"message": "m"});
        let table = [
            (
                409,
                conflict,
                ApplyRefusal::Conflict(vec![("kubectl".to_owned(), "spec.replicas".to_owned())]),
            ),
            (409, plain.clone(), ApplyRefusal::Later("m".to_owned())),
            (403, terminating, ApplyRefusal::Later("m".to_owned())),
            (403, plain.clone(), ApplyRefusal::Forbidden("m".to_owned())),
            (404, plain.clone(), ApplyRefusal::NotYet("m".to_owned())),
            (400, plain.clone(), ApplyRefusal::Invalid("m".to_owned())),
            (422, plain.clone(), ApplyRefusal::Invalid("m".to_owned())),
            (429, plain.clone(), ApplyRefusal::Later("429 m".to_owned())),
            (500, plain.clone(), ApplyRefusal::Later("500 m".to_owned())),
            (
                500,
                json!({"message": "failed to create typed patch object (a/b): .x"}),
                ApplyRefusal::Invalid("failed to create typed patch object (a/b): .x".to_owned()),
            ),
            (503, plain, ApplyRefusal::Later("503 m".to_owned())),
        ];
        for (code, body, wanted) in table {
            assert_eq!(
                status(code, body.clone()).refusal(Quote::Yes),
                wanted,
                "{code} {body}"
            );
        }
    }

    #[test]
    fn texts_about_a_secret_are_not_passed_on() {
        let body = json!({"reason": "Invalid", "message": "data.key: Invalid value: \"canary\"",
            "details": {"causes": [{"field": "data.key", "message": "Invalid value: canary"}]}});
        let refusal = status(422, body).refusal(Quote::No).to_string();
        assert!(!refusal.contains("canary"), "{refusal}");
        assert!(refusal.contains("data.key"), "{refusal}");
    }
}
