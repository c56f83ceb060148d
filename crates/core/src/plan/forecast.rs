//! The forecast: each step's expectation applied, and planned again, to the end.

use super::{Context, Round, UnitPlan, expect, round};
use crate::desired::DesiredUnit;
use crate::observed::SeenUnit;

/// More rounds than any honest plan has: a unit of a hundred servers, one by one,
/// with a few rounds beside. Reaching it is a defect of the planner.
pub const FORECAST_ROUNDS_MAX: usize = 400;

/// The whole plan of a unit.
pub fn forecast(desired: &DesiredUnit, seen: &SeenUnit, context: &Context) -> UnitPlan {
    let frontier = round(desired, seen, context);
    let mut plan = UnitPlan {
        unit: desired.id.clone(),
        forecast: Vec::new(),
        left: Vec::new(),
        waits: Vec::new(),
        frontier: frontier.clone(),
    };
    let mut seen = seen.clone();
    let mut now = frontier;
    for _ in 0..FORECAST_ROUNDS_MAX {
        if now.ready.is_empty() {
            break;
        }
        for step in &now.ready {
            expect::apply(&mut seen, desired, step, context);
        }
        now = round(desired, &seen, context);
        if !now.ready.is_empty() {
            plan.forecast.push(now.ready.clone());
        }
    }
    let Round { held, waits, .. } = now;
    plan.left = held;
    plan.waits = waits;
    plan
}
