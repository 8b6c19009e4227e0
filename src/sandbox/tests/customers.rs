//! A system vendor and its customers.

use std::collections::BTreeSet;

use serde_json::json;

use super::support::{Bench, RECIPIENT, RESOURCE, SENDER, send};
use crate::sandbox::{Action, Role, Vendor};

async fn with_customers(number: usize) -> Bench {
    Bench::with(|options| options.customers = number).await
}

/// Starts again on the same folder, with another number of customers.
async fn restart(mut bench: Bench, number: usize) -> Bench {
    let (dir, clock) = (bench.dir.take().unwrap(), std::sync::Arc::clone(&bench.clock));
    drop(bench.http);
    bench.sandbox.stop().await;
    Bench::at(dir, clock, |options| options.customers = number).await
}

fn vendor(bench: &Bench) -> &Vendor {
    bench.sandbox.vendor().unwrap()
}

fn numbers(bench: &Bench) -> Vec<String> {
    vendor(bench).customers.iter().map(|customer| customer.number.clone()).collect()
}

/// Whether the ninth digit is right, by the rule as Brønnøysundregistrene writes it down.
fn has_check_digit(number: &str) -> bool {
    let digits: Vec<u32> = number.chars().map(|digit| digit.to_digit(10).unwrap()).collect();
    let weighed = digits.iter().zip([3, 2, 7, 6, 5, 4, 3, 2]).map(|(digit, weight)| digit * weight);
    digits.len() == 9 && (weighed.sum::<u32>() + digits[8]).is_multiple_of(11)
}

#[tokio::test]
async fn without_customers_there_is_no_vendor() {
    let bench = Bench::start().await;
    assert!(bench.sandbox.vendor().is_none());
    assert_eq!(bench.sandbox.configuration(Role::Vendor, None), "");
    assert_eq!(bench.sandbox.organizations().len(), 2, "and the service owner");
    bench
        .sandbox
        .world(|world| assert_eq!((world.organizations.len(), world.clients.len()), (3, 3)))
        .unwrap();
}

#[tokio::test]
async fn the_numbers_are_valid_and_of_no_real_organisation() {
    // Two real ones, and none.
    assert!(has_check_digit("974760673") && has_check_digit("991825827") && !has_check_digit("974760674"));
    let bench = with_customers(2000).await;
    let mut all = numbers(&bench);
    all.push(vendor(&bench).founded.number.clone());
    for number in &all {
        assert!(has_check_digit(number), "{number}");
        assert!(number.starts_with(['2', '3']), "{number}");
    }
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 2001);
}

#[tokio::test]
async fn the_numbers_are_always_the_same() {
    let bench = with_customers(3).await;
    assert_eq!(numbers(&bench), ["310000000", "310000019", "310000027"]);
    assert_eq!(vendor(&bench).founded.number, "210000003");
}

/// A token for a customer by the vendor's one client.
async fn token(bench: &Bench, number: &str) -> super::support::Reply {
    let vendor = &vendor(bench).founded;
    let claims = json!({
        "aud": bench.url("/"), "iss": vendor.client_id, "iat": bench.now(), "exp": bench.now() + 100,
        "jti": uuid::Uuid::new_v4(), "scope": "altinn:broker.write altinn:broker.read",
        "authorization_details": [{
            "type": "urn:altinn:systemuser",
            "systemuser_org": { "authority": "iso6523-actorid-upis", "ID": format!("0192:{number}") },
        }],
    });
    let pem = std::fs::read(&vendor.private_key).unwrap();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    header.kid = Some(vendor.key_id.clone());
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(&pem).unwrap();
    bench.post_grant(&jsonwebtoken::encode(&header, &claims, &key).unwrap()).await
}

#[tokio::test]
async fn the_vendors_client_acts_for_every_customer_and_for_nobody_else() {
    let bench = with_customers(2).await;
    let numbers = numbers(&bench);
    let mut transfers = Vec::new();
    for (from, to) in [(&numbers[0], &numbers[1]), (&numbers[1], &numbers[0])] {
        let reply = token(&bench, from).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let token = reply.json()["access_token"].as_str().unwrap().to_owned();
        let mut body = Bench::metadata();
        body["sender"] = format!("0192:{from}").into();
        body["recipients"] = json!([format!("0192:{to}")]);
        let request = bench.http.post(bench.url(super::support::BASE)).bearer_auth(token).json(&body);
        let reply = send(request).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        transfers.push(bench.transfer(reply.json()["fileTransferId"].as_str().unwrap()));
    }
    for (transfer, number) in transfers.iter().zip(&numbers) {
        assert_eq!(transfer.sender, format!("0192:{number}"));
        assert_eq!(transfer.vendor.as_deref(), Some("210000003"));
    }
    for stranger in [SENDER, RECIPIENT] {
        let reply = token(&bench, stranger.strip_prefix("0192:").unwrap()).await;
        assert_eq!(
            (reply.status, reply.json()["error"].as_str()),
            (400, Some("invalid_altinn_customer_configuration"))
        );
    }
}

#[tokio::test]
async fn a_restart_with_more_adds_what_is_missing_and_one_with_fewer_takes_nothing_away() {
    let bench = with_customers(2).await;
    let (client, two) = (vendor(&bench).founded.client_id.clone(), numbers(&bench));
    // What a test has made of the world stays.
    let lost = two[0].clone();
    bench
        .sandbox
        .world(|world| {
            let rights = &mut world.resources.get_mut(RESOURCE).unwrap().rights;
            rights.get_mut(&lost).unwrap().remove(&Action::Write);
        })
        .unwrap();
    let bench = restart(bench, 5).await;
    assert_eq!(vendor(&bench).founded.client_id, client);
    assert_eq!(numbers(&bench)[..2], two);
    assert_eq!(numbers(&bench).len(), 5);
    let kept = bench.sandbox.world(|world| world.resources[RESOURCE].rights[&two[0]].clone()).unwrap();
    assert!(kept.contains(&Action::Read) && !kept.contains(&Action::Write), "{kept:?}");
    for fewer in [1, 0] {
        let bench = restart(with_customers(3).await, fewer).await;
        assert_eq!(numbers(&bench).len(), 3);
        assert_eq!(token(&bench, &numbers(&bench)[2]).await.status, 200);
    }
}

#[tokio::test]
async fn a_sandbox_that_had_no_vendor_can_get_one() {
    let bench = restart(Bench::start().await, 1).await;
    assert_eq!(numbers(&bench), ["310000000"]);
    assert_eq!(token(&bench, "310000000").await.status, 200);
    bench.raw_token(Role::Sender).await;
}

#[tokio::test]
async fn the_vendors_configuration_has_a_ring_of_customers() {
    let bench = with_customers(3).await;
    let table: toml::Table = bench.sandbox.configuration(Role::Vendor, None).parse().unwrap();
    assert_eq!(table["client"].as_table().unwrap().len(), 1);
    assert_eq!(table["client"]["default"]["client_id"].as_str().unwrap(), vendor(&bench).founded.client_id);
    let customers = &vendor(&bench).customers;
    for (customer, next) in customers.iter().zip(customers.iter().cycle().skip(1)) {
        let name = customer.name.as_str();
        let number = format!("0192:{}", customer.number);
        assert_eq!(table["identity"][name]["organization"].as_str(), Some(number.as_str()));
        let outbox = &table["outbox"][format!("{name}-out")];
        assert_eq!(outbox["identity"].as_str(), Some(name));
        assert_eq!(outbox["recipients"][0].as_str().unwrap(), format!("0192:{}", next.number));
        assert_eq!(table["inbox"][format!("{name}-in")]["identity"].as_str(), Some(name));
    }
    let alone = with_customers(1).await;
    let table: toml::Table = alone.sandbox.configuration(Role::Vendor, None).parse().unwrap();
    assert_eq!(table["outbox"]["kunde-0001-out"]["recipients"][0].as_str(), Some(RECIPIENT));
}
