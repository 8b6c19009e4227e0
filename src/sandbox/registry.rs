//! The Resource Registry (`/resourceregistry/api/v1/resource/{id}`), open to everybody: no token, no
//! key. It is told by the world, which knows no policies: an action that somebody may do is one that
//! the policy grants to that organisation.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{Response, StatusCode};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use super::broker::hex;
use super::problem::{answer, json_answer, platform_problem};
use super::route::Question;
use super::site::Site;
use super::world::{Resource, World};

const ACTION: &str = "urn:oasis:names:tc:xacml:1.0:action:action-id";
const ORGANIZATION: &str = "urn:altinn:organization:identifier-no";
const RESOURCE: &str = "urn:altinn:resource";

/// Answers a question about a resource.
pub(super) fn answer_to(site: &Site, question: &Question) -> Response<Body> {
    let (Question::Resource(id) | Question::Policy(id) | Question::Rights(id)) = question;
    site.look(|world| {
        let resource = world.resources.get(id).filter(|resource| resource.registered);
        match (question, resource) {
            (Question::Resource(_), Some(resource)) => json_answer(&entry(world, id, resource)),
            (Question::Rights(_), Some(resource)) if !resource.rights.is_empty() => {
                json_answer(&rights(id, resource))
            }
            (Question::Policy(_), Some(resource)) if !resource.rights.is_empty() => {
                answer(StatusCode::OK, "text/xml", policy(id, resource))
            }
            (Question::Policy(_), Some(_)) => missing("Unable to find requested policy"),
            (Question::Policy(_), None) => missing("Unable to find resource"),
            (Question::Resource(_) | Question::Rights(_), _) => platform_problem(StatusCode::NOT_FOUND, None),
        }
    })
}

fn missing(text: &'static str) -> Response<Body> {
    answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text)
}

fn entry(world: &World, id: &str, resource: &Resource) -> Value {
    let title = json!({ "nb": id, "nn": id, "en": id });
    let mut entry = json!({
        "identifier": id,
        "title": title,
        "description": title,
        "rightDescription": title,
        "status": "Completed",
        "delegable": true,
        "visible": true,
        "accessListMode": if resource.access_list.is_some() { "Enabled" } else { "Disabled" },
        "selfIdentifiedUserEnabled": false,
        "enterpriseUserEnabled": false,
        "resourceType": "BrokerService",
        "isOneTimeConsent": false,
        "versionId": 1,
    });
    let owner = resource.owner.as_deref();
    if let (Some(owner), Some(members)) = (owner, entry.as_object_mut()) {
        let organization = world.organization(owner).map(|it| it.name.as_str());
        let name = world.service_owners.get(owner).map(String::as_str).or(organization).unwrap_or_default();
        let authority = json!({
            "name": { "nb": name, "nn": name, "en": name },
            "organization": owner,
            "orgcode": world.owner_codes.get(owner),
        });
        members.insert("hasCompetentAuthority".to_owned(), authority);
    }
    entry
}

/// Who may do what, by the action's name in the policy.
fn by_action(resource: &Resource) -> BTreeMap<String, BTreeSet<&str>> {
    let mut actions: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (organization, granted) in &resource.rights {
        for action in granted {
            let name = format!("{action:?}").to_ascii_lowercase();
            actions.entry(name).or_default().insert(organization);
        }
    }
    actions
}

fn rights(id: &str, resource: &Resource) -> Value {
    let right = |(action, organizations): (String, BTreeSet<&str>)| {
        let subject = |organization: &str| json!({ "subjectAttributes": [{ "type": ORGANIZATION, "value": organization }] });
        let digest = hex(&Md5::digest(format!("{action};{RESOURCE}:{id}")));
        json!({
            "action": { "type": ACTION, "value": action },
            "resource": [{ "type": RESOURCE, "value": id }],
            "subjects": organizations.into_iter().map(subject).collect::<Vec<_>>(),
            "rightKey": format!("{action};{id};{digest}"),
            "subjectTypes": [ORGANIZATION],
        })
    };
    by_action(resource).into_iter().map(right).collect()
}

/// A XACML 3.0 policy with one rule per action.
fn policy(id: &str, resource: &Resource) -> String {
    const STRING: &str = "http://www.w3.org/2001/XMLSchema#string";
    let matching = |value: &str, attribute: &str, category: &str| {
        format!(
            r#"<xacml:Match MatchId="urn:oasis:names:tc:xacml:1.0:function:string-equal"><xacml:AttributeValue DataType="{STRING}">{}</xacml:AttributeValue><xacml:AttributeDesignator AttributeId="{attribute}" Category="{category}" DataType="{STRING}" MustBePresent="false"/></xacml:Match>"#,
            escaped(value)
        )
    };
    let subject = "urn:oasis:names:tc:xacml:1.0:subject-category:access-subject";
    let of_resource = "urn:oasis:names:tc:xacml:3.0:attribute-category:resource";
    let of_action = "urn:oasis:names:tc:xacml:3.0:attribute-category:action";
    let all_of = |text: String| format!("<xacml:AllOf>{text}</xacml:AllOf>");
    let any_of = |text: String| format!("<xacml:AnyOf>{text}</xacml:AnyOf>");
    let rule = |(number, (action, organizations)): (usize, (String, BTreeSet<&str>))| {
        let who: Vec<String> =
            organizations.into_iter().map(|it| all_of(matching(it, ORGANIZATION, subject))).collect();
        format!(
            r#"<xacml:Rule RuleId="urn:altinn:resource:{}:ruleid:{}" Effect="Permit"><xacml:Target>{}{}{}</xacml:Target></xacml:Rule>"#,
            escaped(id),
            number + 1,
            any_of(who.concat()),
            any_of(all_of(matching(id, RESOURCE, of_resource))),
            any_of(all_of(matching(&action, ACTION, of_action))),
        )
    };
    let rules = by_action(resource).into_iter().enumerate().map(rule).collect::<Vec<_>>().concat();
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><xacml:Policy xmlns:xacml="urn:oasis:names:tc:xacml:3.0:core:schema:wd-17" PolicyId="urn:altinn:policyid:{}" Version="1.0" RuleCombiningAlgId="urn:oasis:names:tc:xacml:3.0:rule-combining-algorithm:deny-overrides"><xacml:Target/>{rules}</xacml:Policy>"#,
        escaped(id)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
