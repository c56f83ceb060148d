//! trueup's own records in the cluster, and what it writes on Nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trueup_model::facts::cluster::{
    ClusterOwner, Inventory, InventoryEntry, OWNED_TAINTS, RawTaint,
};
use trueup_model::id::{AppName, Claim};
use trueup_model::port::{ClusterApi, ClusterError, Force};

use crate::stage::{Stage, api, app, node, reference};

const SOON: Duration = Duration::from_secs(20);

fn entries(count: usize) -> Inventory {
    let entry = |index: usize| InventoryEntry {
        object: reference("v1", "ConfigMap", "default", &format!("object-{index}")),
        uid: None,
        adopted: false,
    };
    Inventory {
        entries: (0..count).map(entry).collect(),
        ..Inventory::default()
    }
}

fn is_refused(result: Result<(), ClusterError>, what: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, ClusterError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(what), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inventories_are_never_written_over() {
    let stage = Stage::start();
    let ours = &stage.api;
    let theirs = api(vec![("s1", Arc::clone(&stage.shell))]);
    assert!(ours.facts(&[]).await.unwrap().inventories.is_empty());
    theirs.facts(&[]).await.unwrap();

    // The first write makes the namespace; what was written is read at once.
    ours.write_inventory(&app(), &entries(1)).await.unwrap();
    assert_eq!(
        ours.facts(&[]).await.unwrap().inventories[&app()],
        entries(1)
    );
    ours.write_inventory(&app(), &entries(2)).await.unwrap();
    // The other one has not read since.
    is_refused(
        theirs.write_inventory(&app(), &entries(9)).await,
        "since it was read",
    );
    theirs.facts(&[]).await.unwrap();
    stage
        .facts_until("both read the same", &[], SOON, |facts| {
            facts.inventories[&app()] == entries(2)
        })
        .await;
    crate::stage::within("the other one reads it", SOON, async {
        while theirs.facts(&[]).await.unwrap().inventories.get(&app()) != Some(&entries(2)) {
            theirs.changed().await;
        }
    })
    .await;
    theirs.write_inventory(&app(), &entries(3)).await.unwrap();
    is_refused(
        ours.write_inventory(&app(), &entries(4)).await,
        "since it was read",
    );

    // As large as it may be, and larger.
    let big: AppName = "big".parse().unwrap();
    ours.write_inventory(&big, &entries(9_000)).await.unwrap();
    is_refused(
        ours.write_inventory(&big, &entries(20_000)).await,
        "split the Application",
    );

    // Somebody's nonsense in a record of ours: nothing is decided on it.
    let patch = r#"{"data":{"inventory":"{nonsense"}}"#;
    let target = [
        "-n",
        "trueup-system",
        "patch",
        "configmap/inventory-big",
        "-p",
        patch,
    ];
    stage.plane.kubectl(&target).unwrap();
    crate::stage::within("the record is seen to be broken", SOON, async {
        while ours.facts(&[]).await.is_ok() {
            ours.changed().await;
        }
    })
    .await;
    is_refused(ours.facts(&[]).await.map(drop), "inventory-big");
}

fn owner(holder: &str, epoch: u64) -> ClusterOwner {
    ClusterOwner {
        claim: Claim {
            holder: holder.to_owned(),
            epoch,
        },
        id: "id-1".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_one() {
    let stage = Stage::start();
    let api = &stage.api;
    assert_eq!(api.facts(&[]).await.unwrap().owner, None);
    api.write_owner(&owner("a", 2), false).await.unwrap();
    assert_eq!(api.facts(&[]).await.unwrap().owner, Some(owner("a", 2)));
    let table = [
        (owner("a", 1), false, false),
        (owner("a", 2), false, true),
        (owner("b", 3), false, false),
        (owner("b", 1), true, false),
        (owner("b", 3), true, true),
        (owner("a", 4), false, false),
    ];
    for (owner, take_over, wanted) in table {
        let done = api.write_owner(&owner, take_over).await;
        assert_eq!(done.is_ok(), wanted, "{owner:?} {take_over}: {done:?}");
    }
    // A pause on the cluster itself outlives our writes.
    let pause = [
        "-n",
        "trueup-system",
        "annotate",
        "configmap/owner",
        "trueup.dev/pause=moving house",
    ];
    stage.plane.kubectl(&pause).unwrap();
    api.write_owner(&owner("b", 4), false).await.unwrap();
    let (facts, _) = stage
        .facts_until("the pause", &[], SOON, |facts| facts.paused.is_some())
        .await;
    assert_eq!(facts.paused.as_deref(), Some("moving house"));
    assert_eq!(facts.owner, Some(owner("b", 4)));
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

fn taint(key: &str, value: &str, effect: &str) -> RawTaint {
    RawTaint {
        key: key.to_owned(),
        value: value.to_owned(),
        effect: effect.to_owned(),
        time_added: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_taints_of_a_node() {
    let stage = Stage::start();
    let manifest =
        r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":{"theirs":"1"}}}"#;
    stage
        .plane
        .kubectl_input(&["create", "-f", "-"], manifest)
        .unwrap();
    let (api, n1) = (&stage.api, node("n1"));
    let node_now = async || api.facts(&[]).await.unwrap().nodes["n1"].clone();
    stage.api.facts(&[]).await.unwrap();

    api.set_labels(&n1, &labels(&[("a", "1"), ("b", "2")]), Force::No)
        .await
        .unwrap();
    let fact = node_now().await;
    assert_eq!(fact.owned_labels, ["a", "b"]);
    assert_eq!(
        fact.labels,
        labels(&[("a", "1"), ("b", "2"), ("theirs", "1")])
    );
    // What is not said any more is taken away; what others wrote stays.
    api.set_labels(&n1, &labels(&[("b", "3")]), Force::No)
        .await
        .unwrap();
    assert_eq!(
        node_now().await.labels,
        labels(&[("b", "3"), ("theirs", "1")])
    );
    let error = api
        .set_labels(&n1, &labels(&[("theirs", "2")]), Force::No)
        .await
        .unwrap_err();
    let ClusterError::Conflict { fields, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(fields[0].1, "metadata.labels.theirs", "{error}");
    assert!(fields[0].0.starts_with("kubectl"), "{error}");
    // A Node that is not there is not made.
    api.set_labels(&node("n2"), &labels(&[("b", "3")]), Force::No)
        .await
        .unwrap_err();
    assert!(stage.plane.kubectl(&["get", "node/n2"]).is_err());

    // The API server itself taints a new Node as not ready.
    let before = node_now().await.taints;
    println!("taints of a new Node: {before:?}");
    let ours = taint("dedicated", "db", "NoSchedule");
    let mut after = before.clone();
    after.push(ours.clone());
    api.set_taints(&n1, &before, &after, "dedicated:NoSchedule")
        .await
        .unwrap();
    let fact = node_now().await;
    assert_eq!(fact.taints, after);
    assert_eq!(fact.annotations[OWNED_TAINTS], "dedicated:NoSchedule");

    // A taint that came meanwhile (with its time) is not lost.
    stage
        .plane
        .kubectl(&["taint", "nodes", "n1", "theirs=x:NoExecute"])
        .unwrap();
    is_refused(
        api.set_taints(&n1, &after, &before, "").await,
        "changed meanwhile",
    );
    stage
        .facts_until("the other taint", &[], SOON, |facts| {
            facts.nodes["n1"].taints.len() > after.len()
        })
        .await;
    let with_theirs = node_now().await.taints;
    let rest: Vec<RawTaint> = with_theirs
        .iter()
        .filter(|taint| **taint != ours)
        .cloned()
        .collect();
    api.set_taints(&n1, &with_theirs, &rest, "").await.unwrap();
    let fact = node_now().await;
    assert_eq!(fact.taints, rest);
    assert!(!fact.annotations.contains_key(OWNED_TAINTS));

    // Down to none, and up from none.
    api.set_taints(&n1, &rest, &[], "").await.unwrap();
    assert!(node_now().await.taints.is_empty());
    is_refused(
        api.set_taints(&n1, &rest, &[], "").await,
        "changed meanwhile",
    );
    api.set_taints(
        &n1,
        &[],
        std::slice::from_ref(&ours),
        "dedicated:NoSchedule",
    )
    .await
    .unwrap();
    is_refused(api.set_taints(&n1, &[], &[], "").await, "changed meanwhile");
    assert_eq!(node_now().await.taints, [ours]);
}
