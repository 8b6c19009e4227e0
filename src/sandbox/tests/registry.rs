//! The Resource Registry.

use serde_json::{Value, json};

use super::support::{Bench, OWNER, RESOURCE, Reply, send};
use crate::sandbox::Resource;

/// Asks without a token and without a key.
async fn ask(bench: &Bench, path: &str) -> Reply {
    send(bench.http.get(bench.url(&format!("/resourceregistry/api/v1/resource/{path}")))).await
}

#[tokio::test]
async fn a_resource_tells_its_owner_and_its_access_list() {
    let bench = Bench::start().await;
    let reply = ask(&bench, RESOURCE).await;
    assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"));
    let entry = reply.json();
    assert_eq!(entry["identifier"], RESOURCE);
    assert_eq!(entry["resourceType"], "BrokerService");
    assert_eq!((&entry["delegable"], &entry["accessListMode"]), (&true.into(), &"Disabled".into()));
    let authority = &entry["hasCompetentAuthority"];
    assert_eq!(authority["organization"].as_str(), OWNER.strip_prefix("0192:"));
    assert_eq!((&authority["orgcode"], &authority["name"]["nb"]), (&"tje".into(), &"tjenesteeier".into()));
    bench.resource(|resource| resource.access_list = Some([].into()));
    assert_eq!(ask(&bench, RESOURCE).await.json()["accessListMode"], "Enabled");
}

#[tokio::test]
async fn rights_name_actions_and_subjects() {
    let bench = Bench::start().await;
    let rights = ask(&bench, &format!("{RESOURCE}/policy/rights")).await.json();
    let rights = rights.as_array().unwrap();
    let find = |action: &str| rights.iter().find(|right| right["action"]["value"] == action);
    for action in ["read", "write"] {
        let right = find(action).unwrap_or_else(|| panic!("no {action} in {rights:?}"));
        assert_eq!(right["action"]["type"], "urn:oasis:names:tc:xacml:1.0:action:action-id");
        assert_eq!(right["resource"], json!([{ "type": "urn:altinn:resource", "value": RESOURCE }]));
        assert_eq!(right["subjectTypes"], json!(["urn:altinn:organization:identifier-no"]));
        let numbers: Vec<&Value> = right["subjects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|subject| &subject["subjectAttributes"][0]["value"])
            .collect();
        assert_eq!(numbers, ["910753614", "991825827"]);
        let key = right["rightKey"].as_str().unwrap();
        assert!(key.starts_with(&format!("{action};{RESOURCE};")), "{key}");
    }
    assert!(find("anything").is_none());
    let policy = ask(&bench, &format!("{RESOURCE}/policy")).await;
    assert_eq!(policy.header("Content-Type"), Some("text/xml"));
    for part in [RESOURCE, "991825827", "910753614", ">write<", ">read<", "xacml:3.0:core"] {
        assert!(policy.text().contains(part), "{part} in {}", policy.text());
    }
}

#[tokio::test]
async fn what_does_not_exist_is_404() {
    let bench = Bench::with(|options| options.key_gate = Some("demanded of others".to_owned())).await;
    bench
        .sandbox
        .world(|world| {
            world.resources.insert("bare".to_owned(), Resource::default());
            let gone = Resource { registered: false, ..Resource::default() };
            world.resources.insert("gone".to_owned(), gone);
        })
        .unwrap();
    assert_eq!(ask(&bench, "bare").await.status, 200);
    for path in ["unknown", "gone", "unknown/policy/rights", "bare/policy/rights"] {
        let reply = ask(&bench, path).await;
        assert_eq!((reply.status, &reply.json()["title"]), (404, &"Not Found".into()), "{path}");
    }
    let policy = ask(&bench, "bare/policy").await;
    assert_eq!((policy.status, policy.text().as_str()), (404, "Unable to find requested policy"));
    assert_eq!(ask(&bench, "gone/policy").await.text(), "Unable to find resource");
}
