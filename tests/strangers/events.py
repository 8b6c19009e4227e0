"""The CloudEvents SDK reads what Altinn Events delivers, and what is pulled from it."""

import json
import os
import pathlib
import time
import uuid

import requests
from cloudevents.core.formats.json import JSONFormat
from cloudevents.v1.http import from_json

from altinn import API, AVSENDER, MOTTAKER, SANDBOX, headers, initialize, ok, until
from receiver import Receiver, make_certificate

EVENTS = SANDBOX["endpoints"]["events"]
RESOURCE = f"urn:altinn:resource:{SANDBOX['resource']}"
SUBJECT = f"urn:altinn:organization:identifier-no:{MOTTAKER['organization'].removeprefix('0192:')}"


def read(body):
    """By both generations of the SDK, which have to agree."""
    event, old = JSONFormat().read(None, body), from_json(body)
    assert (event.get_id(), event.get_type(), event.get_source()) == (old["id"], old["type"], old["source"])
    assert event.get_specversion() == "1.0"
    return event


def as_mottaker(method, address, **options):
    return requests.request(method, address, headers=headers(MOTTAKER), timeout=10, **options)


def subscribe(receiver):
    body = {"endPoint": receiver.url, "resourceFilter": RESOURCE, "subjectFilter": SUBJECT}
    body["typeFilter"] = "no.altinn.broker.published"
    answer = as_mottaker("POST", f"{EVENTS}/subscriptions", json=body)
    assert answer.status_code == 201, answer.text
    address = f"{EVENTS}/subscriptions/{answer.json()['id']}"
    _, body = receiver.received.get(timeout=20)
    event = read(body)
    assert event.get_type() == "platform.events.validatesubscription", body
    assert event.get_source().endswith(f"/subscriptions/{answer.json()['id']}"), body
    assert event.get_data() is None, body
    deadline = time.monotonic() + 10
    while not as_mottaker("GET", address).json()["validated"]:
        assert time.monotonic() < deadline, "the subscription was not validated"
        time.sleep(0.1)
    return address


def send(name, content):
    transfer = initialize(name, content)
    octets = headers(AVSENDER) | {"Content-Type": "application/octet-stream"}
    assert requests.post(f"{API}/{transfer}/upload", data=content, headers=octets, timeout=10).status_code == 200
    until(transfer, "Published")
    return transfer


def assert_is_of(event, transfer):
    assert event.get_type() == "no.altinn.broker.published"
    assert event.get_source().endswith("/broker/api/v1/filetransfer")
    assert event.get_subject() == SUBJECT
    assert event.get_time().utcoffset().total_seconds() == 0
    assert event.get_extension("resource") == RESOURCE
    assert event.get_extension("resourceinstance") == transfer
    assert event.get_data() == {"Role": "Recipient"}, event.get_data()


def pull():
    """All events about mottaker, page by page, until a page is empty."""
    after, events = "0", []
    while True:
        query = {"resource": RESOURCE, "subject": SUBJECT, "after": after, "size": 2, "type": "%.published"}
        answer = as_mottaker("GET", f"{EVENTS}/events", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("application/cloudevents+json")
        page = [read(json.dumps(event)) for event in answer.json()]
        if not page:
            return events
        after = page[-1].get_id()
        assert f"after={after}" in answer.headers["next"], answer.headers
        events += page


def main():
    certificate = make_certificate(
        os.environ["RECEIVER_CA"], os.environ["RECEIVER_CA_KEY"], pathlib.Path(os.environ["WORK"])
    )
    receiver = Receiver(certificate, secret=uuid.uuid4().hex)
    subscription = subscribe(receiver)
    ok("the CloudEvents SDK reads the validation event, and the subscription is validated")

    transfers = [send(f"event-{number}.txt", b"hei %d" % number) for number in range(3)]
    pushed = {}
    while len(pushed) < len(transfers):
        sent_with, body = receiver.received.get(timeout=20)
        assert sent_with["Content-Type"] == "application/json; charset=utf-8", sent_with
        assert not any(name.lower().startswith("ce-") for name in sent_with.keys()), sent_with
        event = read(body)
        pushed[event.get_extension("resourceinstance")] = event
    for transfer in transfers:
        assert_is_of(pushed[transfer], transfer)
    ok("the CloudEvents SDK reads what is delivered to an https endpoint")

    deadline = time.monotonic() + 30
    while len(pulled := pull()) < len(transfers):
        assert time.monotonic() < deadline, f"only {len(pulled)} events could be pulled"
        time.sleep(0.2)
    assert [event.get_extension("resourceinstance") for event in pulled] == transfers
    for event, transfer in zip(pulled, transfers, strict=True):
        assert_is_of(event, transfer)
        assert event.get_id() == pushed[transfer].get_id()
    ok("the CloudEvents SDK reads what is pulled, page by page: the same events, in order")

    assert as_mottaker("DELETE", subscription).status_code == 200
    assert as_mottaker("GET", subscription).status_code == 404
    ok("the subscription is gone when it is deleted")


main()
