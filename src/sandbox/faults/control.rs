//! `/_sandbox/faults`: reads, replaces, adds to and removes the rules of a running sandbox.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::rule::FaultRules;
use crate::sandbox::problem::{answer, bare};
use crate::sandbox::server::LARGEST_FORM;
use crate::sandbox::site::Site;

/// Answers a request for all rules, or for the one with that name.
pub(in crate::sandbox) async fn control(
    site: &Site,
    parts: &Parts,
    name: Option<&str>,
    body: Body,
) -> Response<Body> {
    if let Some(name) = name {
        return one(site, &parts.method, name);
    }
    if parts.method == Method::DELETE {
        site.faults.replace(FaultRules::default());
        return bare(StatusCode::NO_CONTENT);
    }
    if parts.method == Method::GET {
        return all(site);
    }
    let Ok(body) = axum::body::to_bytes(body, LARGEST_FORM).await else {
        return refuse(StatusCode::BAD_REQUEST, "the body could not be read");
    };
    let rules = match serde_json::from_slice::<Value>(&body) {
        Ok(document) => FaultRules::from_json(document).map_err(|error| error.to_string()),
        Err(error) => Err(format!("the body is not JSON: {error}")),
    };
    let rules = match rules {
        Ok(rules) => rules,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error),
    };
    if parts.method == Method::PUT {
        site.faults.replace(rules);
    } else if let Err(error) = site.faults.add(rules) {
        return refuse(StatusCode::CONFLICT, &error.to_string());
    }
    all(site)
}

fn one(site: &Site, method: &Method, name: &str) -> Response<Body> {
    if method == Method::DELETE {
        if site.faults.remove(name) {
            return bare(StatusCode::NO_CONTENT);
        }
    } else if let Some(rule) = site.faults.show().into_iter().find(|rule| rule["name"] == name) {
        return json_of(StatusCode::OK, &rule);
    }
    refuse(StatusCode::NOT_FOUND, &format!("there is no rule with the `name` \"{name}\""))
}

fn all(site: &Site) -> Response<Body> {
    json_of(StatusCode::OK, &site.faults.show().into())
}

fn refuse(status: StatusCode, error: &str) -> Response<Body> {
    json_of(status, &json!({ "error": error }))
}

fn json_of(status: StatusCode, body: &Value) -> Response<Body> {
    answer(status, "application/json; charset=utf-8", body.to_string())
}
