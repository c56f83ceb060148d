//! A steady state costs nothing: counted in the API server's own audit log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trueup_model::facts::cluster::{Inventory, InventoryEntry};
use trueup_model::port::{ClusterApi as _, Force};

use crate::stage::{Stage, app, config_map, kind, prepared, reference};

const OBJECTS: usize = 1_000;
const LANES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_at_rest_cost_no_request() {
    // A minute; ten with `tests/run --long`.
    let minutes = if std::env::var_os("TRUEUP_LONG").is_some() {
        10
    } else {
        1
    };
    let quiet = Duration::from_secs(60 * minutes);
    let stage = Stage::start();
    let kinds = [kind("v1", "ConfigMap"), kind("apps/v1", "Deployment")];
    stage.api.facts(&kinds).await.unwrap();
    let begun = Instant::now();
    let lanes = (0..LANES).map(|lane| {
        let api = Arc::clone(&stage.api);
        tokio::spawn(async move {
            let mut entries = Vec::new();
            for index in (lane..OBJECTS).step_by(LANES) {
                let name = format!("object-{index}");
                let object = prepared(&config_map(&name, "1"));
                let answer = api.apply(&object, Force::No, false).await.unwrap();
                entries.push(InventoryEntry {
                    object: reference("v1", "ConfigMap", "default", &name),
                    uid: Some(answer.uid),
                    adopted: false,
                });
            }
            entries
        })
    });
    let mut inventory = Inventory::default();
    for lane in lanes.collect::<Vec<_>>() {
        inventory.entries.extend(lane.await.unwrap());
    }
    stage.api.write_inventory(&app(), &inventory).await.unwrap();
    println!("{OBJECTS} objects applied in {:?}", begun.elapsed());
    let facts = stage.api.facts(&kinds).await.unwrap();
    assert_eq!(facts.objects.len(), OBJECTS);

    let before = stage.plane.audit_lines("trueup").unwrap().len();
    let mut sweeps = 0;
    let mut worst = Duration::ZERO;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let begun = Instant::now();
    while begun.elapsed() < quiet {
        tick.tick().await;
        let sweep = Instant::now();
        let facts = stage.api.facts(&kinds).await.unwrap();
        worst = worst.max(sweep.elapsed());
        assert_eq!(
            (facts.objects.len(), facts.blind.len()),
            (OBJECTS, 0),
            "{:?}",
            facts.blind
        );
        sweeps += 1;
    }
    let lines = stage.plane.audit_lines("trueup").unwrap().split_off(before);
    let (watches, others): (Vec<_>, Vec<_>) = lines
        .into_iter()
        .partition(|line| line.starts_with("watch "));
    println!(
        "{sweeps} sweeps over {OBJECTS} objects in {quiet:?}: {} lines of watch renewals, \
         {} other requests; slowest sweep {worst:?}",
        watches.len(),
        others.len()
    );
    assert_eq!(others, Vec::<String>::new());
}
