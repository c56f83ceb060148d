use serde_json::json;

use super::*;

fn subject() -> Subject {
    Subject::Kind("v1".to_owned(), "ConfigMap".to_owned())
}

fn object(name: &str, version: u32, labelled: bool) -> Value {
    let mut object = json!({"metadata": {"name": name, "namespace": "n", "uid": format!("u-{name}"),
        "resourceVersion": version.to_string()}, "data": {"v": version.to_string()}});
    if labelled {
        object["metadata"]["labels"] = json!({APPLICATION_LABEL: "web"});
    }
    object
}

fn reference_to(name: &str) -> ObjectRef {
    reference("v1", "ConfigMap", &("n".to_owned(), name.to_owned()))
}

fn names(cache: &Cache) -> Vec<String> {
    cache
        .objects()
        .into_keys()
        .map(|object| object.name)
        .collect()
}

fn lookups(cache: &Cache) -> Vec<String> {
    let lookups = cache.lookups().into_iter();
    lookups.map(|lookup| lookup.object.name).collect()
}

fn asked(cache: &Cache, name: &str) -> Lookup {
    let wanted = |lookup: &Lookup| lookup.object.name == name;
    cache.lookups().into_iter().find(wanted).unwrap()
}

#[test]
fn what_leaves_the_selector_is_looked_up_before_it_is_gone() {
    let mut cache = Cache::default();
    cache.replace(&subject(), vec![object("a", 1, true), object("b", 2, true)]);
    cache.left(&subject(), &object("a", 3, true));
    assert_eq!(
        (names(&cache), lookups(&cache)),
        (vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned()])
    );
    // It only lost its label.
    let lookup = asked(&cache, "a");
    cache.resolved(&lookup, Some(object("a", 4, false)));
    assert_eq!(cache.strays(), [reference_to("a")]);
    assert!(lookups(&cache).is_empty() && cache.objects().len() == 2);
    // By its own watch it changes, and has the label again.
    let stray = Subject::Stray(reference_to("a"));
    cache.put(&stray, object("a", 5, true));
    assert!(cache.strays().is_empty());
    // Really deleted.
    cache.left(&subject(), &object("a", 6, true));
    cache.resolved(&asked(&cache, "a"), None);
    assert_eq!(names(&cache), ["b"]);
}

#[test]
fn an_object_that_came_again_is_not_taken_for_gone() {
    let mut cache = Cache::default();
    cache.replace(&subject(), vec![object("a", 1, true)]);
    cache.left(&subject(), &object("a", 2, true));
    let lookup = asked(&cache, "a");
    // The answer "not there" is older than the new object's event.
    cache.put(&subject(), object("a", 4, true));
    cache.resolved(&lookup, None);
    assert_eq!(names(&cache), ["a"]);
}

#[test]
fn a_new_list_says_nothing_of_what_it_lacks() {
    let mut cache = Cache::default();
    cache.replace(&subject(), vec![object("a", 1, true), object("b", 2, true)]);
    cache.replace(&subject(), vec![object("b", 2, true)]);
    assert_eq!(
        (names(&cache).len(), lookups(&cache)),
        (2, vec!["a".to_owned()])
    );
    cache.resolved(&asked(&cache, "a"), None);
    assert_eq!(names(&cache), ["b"]);
    // The kind itself went away.
    cache.kind_not_served("v1", "ConfigMap");
    assert!(names(&cache).is_empty() && lookups(&cache).is_empty());
}

#[test]
fn an_earlier_version_never_covers_a_later_one() {
    let mut cache = Cache::default();
    cache.replace(&subject(), vec![]);
    // Our own write's answer comes before the watch's older event.
    cache.put(&subject(), object("a", 10, true));
    let change = cache.change;
    cache.put(&subject(), object("a", 9, true));
    assert_eq!(cache.change, change);
    let live = cache.objects();
    assert_eq!(live[&reference_to("a")].json["data"]["v"], "10");
    // Another object of the same name counts, whatever its version.
    let mut other = object("a", 3, true);
    other["metadata"]["uid"] = json!("other");
    cache.put(&subject(), other);
    assert_eq!(cache.objects()[&reference_to("a")].uid, "other");
    assert!(
        is_newer("10", "9") && !is_newer("9", "10") && !is_newer("9", "9") && is_newer("x", "9")
    );
}

#[test]
fn what_says_nothing_new_wakes_nobody() {
    let mut cache = Cache::default();
    cache.replace(&subject(), vec![object("a", 1, true)]);
    let change = cache.change;
    let mut same = object("a", 1, true);
    same["metadata"]["resourceVersion"] = json!("2");
    same["metadata"]["managedFields"] = json!([{"manager": "trueup", "operation": "Apply"}]);
    cache.put(&subject(), same);
    assert_eq!(cache.change, change);
    let node = |version: &str, at: &str| {
        json!({"metadata": {"name": "n", "uid": "u", "resourceVersion": version},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": at}]}})
    };
    cache.put(&Subject::Nodes, node("5", "1"));
    let change = cache.change;
    cache.put(&Subject::Nodes, node("6", "2"));
    assert_eq!(cache.change, change);
}

fn inventory(cache: &mut Cache, version: u32, uids: &[(&str, Option<&str>)]) {
    let entries: Vec<Value> = uids
        .iter()
        .map(|(name, uid)| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "n", "name": name, "uid": uid})
        })
        .collect();
    let text = json!({"entries": entries}).to_string();
    let record = json!({"metadata": {"name": "inventory-web", "resourceVersion": version.to_string()},
        "data": {"inventory": text}});
    cache.put(&Subject::Records, record);
}

#[test]
fn objects_of_an_inventory_are_looked_up_once() {
    let mut cache = Cache::default();
    inventory(
        &mut cache,
        1,
        &[("a", Some("u-a")), ("b", Some("u-b")), ("c", None)],
    );
    assert!(
        lookups(&cache).is_empty(),
        "not before the kind's watch is in step"
    );
    cache.replace(&subject(), vec![object("a", 2, true)]);
    // `c` has no UID: nobody created it, as far as anybody knows.
    assert_eq!(lookups(&cache), ["b"]);
    cache.resolved(&asked(&cache, "b"), None);
    assert!(lookups(&cache).is_empty());
    // Another inventory's word for the same object: another UID, asked again.
    inventory(&mut cache, 3, &[("b", Some("u-other"))]);
    let lookup = asked(&cache, "b");
    cache.resolved(&lookup, Some(object("b", 4, false)));
    assert!(
        lookups(&cache).is_empty(),
        "what stands there is another object"
    );
    assert_eq!(names(&cache), ["a", "b"]);
}

#[test]
fn managed_fields_of_others_are_kept() {
    let mut cache = Cache::default();
    let mut live = object("a", 1, true);
    live["metadata"]["managedFields"] = json!([
        {"manager": "trueup", "operation": "Apply"},
        {"manager": "controller", "operation": "Update", "subresource": "status"},
        {"manager": "kubectl-edit", "operation": "Update"}]);
    cache.replace(&subject(), vec![live]);
    let kept = &cache.objects()[&reference_to("a")].json["metadata"]["managedFields"];
    assert_eq!(
        kept,
        &json!([{"manager": "kubectl-edit", "operation": "Update"}])
    );
}
