//! The main path: connect, apply, follow, drift.

use std::sync::atomic::Ordering;
use std::time::Duration;

use trueup_model::port::ClusterApi as _;

use crate::stage::{Stage, baseline, deployment, drift, kind, reference};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_is_seen_within_two_seconds() {
    let stage = Stage::start();
    let kinds = [kind("apps/v1", "Deployment")];
    let facts = stage.api.facts(&kinds).await.unwrap();
    assert!(facts.objects.is_empty() && facts.blind.is_empty() && facts.owner.is_none());

    let answer = stage.apply(deployment("web", 2)).await;
    assert!(answer.created);
    let base = baseline(&answer);
    let object = reference("apps/v1", "Deployment", "default", "web");
    // What was written is there at once.
    let facts = stage.api.facts(&kinds).await.unwrap();
    assert_eq!(facts.objects[&object].uid, answer.uid);
    assert_eq!(drift(&base, &facts, &object), vec![]);

    stage
        .plane
        .kubectl(&["scale", "deployment/web", "--replicas=5"])
        .unwrap();
    let (facts, took) = stage
        .facts_until("the scale", &kinds, SOON, |facts| {
            !drift(&base, facts, &object).is_empty()
        })
        .await;
    let found: Vec<String> = drift(&base, &facts, &object)
        .iter()
        .map(ToString::to_string)
        .collect();
    println!("scale seen {took:?} after kubectl had ended: {found:?}");
    assert_eq!(found, ["spec.replicas: 5 (applied: 2)"]);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(stage.shell.dials.load(Ordering::Relaxed) > 0);
    assert_eq!(stage.shell.reads.load(Ordering::Relaxed), 1);
}
