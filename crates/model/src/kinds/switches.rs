//! The three independent powers. Effective = host AND repo.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What trueup may do to a target. Each switch stands alone; what is effective
/// is what both the host configuration and the config repo grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Switches {
    /// Look for drift and report it. Default: what stands above (the Fleet, then true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_drift: Option<bool>,
    /// Put drift right without a new commit. Default: what stands above (the Fleet, then false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_drift: Option<bool>,
    /// Carry out what new commits ask for. Default: what stands above (the Fleet, then false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll_out: Option<bool>,
}

impl Switches {
    /// These switches, and where one is silent, those of `above`.
    #[must_use]
    pub fn or(self, above: Self) -> Self {
        Self {
            report_drift: self.report_drift.or(above.report_drift),
            correct_drift: self.correct_drift.or(above.correct_drift),
            roll_out: self.roll_out.or(above.roll_out),
        }
    }

    /// Each switch with its last default: report only.
    pub fn resolve(self) -> Powers {
        Powers {
            report_drift: self.report_drift.unwrap_or(true),
            correct_drift: self.correct_drift.unwrap_or(false),
            roll_out: self.roll_out.unwrap_or(false),
        }
    }
}

/// Switches after every default: what one side grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Powers {
    /// Drift may be reported.
    pub report_drift: bool,
    /// Drift may be corrected.
    pub correct_drift: bool,
    /// Commits may be rolled out.
    pub roll_out: bool,
}

impl Powers {
    /// What both sides grant.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            report_drift: self.report_drift && other.report_drift,
            correct_drift: self.correct_drift && other.correct_drift,
            roll_out: self.roll_out && other.roll_out,
        }
    }
}
