//! Why a step may not start.

use serde::Serialize;

/// Why a step may not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The gate that holds it.
    pub gate: &'static str,
    /// Will waiting help, or must somebody act?
    pub verdict: Refusal,
    /// Why, with the observed values.
    pub reason: String,
    /// The one next command, where somebody must act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Will waiting help?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// It may start later by itself.
    Wait,
    /// Somebody must act.
    Refuse,
}

impl Hold {
    pub(crate) fn wait(gate: &'static str, reason: impl Into<String>) -> Self {
        Self {
            gate,
            verdict: Refusal::Wait,
            reason: reason.into(),
            next: None,
        }
    }

    pub(crate) fn refuse(
        gate: &'static str,
        reason: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            gate,
            verdict: Refusal::Refuse,
            reason: reason.into(),
            next: Some(next.into()),
        }
    }
}
