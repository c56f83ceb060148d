//! What must hold between documents and within one beyond its schema. One file a family.

mod k3s;
mod labels;
mod nodes;
mod profiles;
mod references;

use trueup_model::document::Diagnostic;

use super::Config;
use super::names::BrokenNames;

/// Holds a configuration against all rules.
pub(super) fn check(config: &Config, broken: &BrokenNames, findings: &mut Vec<Diagnostic>) {
    references::check(config, broken, findings);
    k3s::check(config, broken, findings);
    nodes::check(config, findings);
    labels::check(config, findings);
    profiles::check(config, findings);
}
