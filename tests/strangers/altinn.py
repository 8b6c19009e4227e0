"""Formidling as a Python integrator sees it: PyJWT and requests."""

import hashlib
import json
import os
import time
import uuid

import jwt
import requests

SANDBOX = json.loads(os.environ["SANDBOX"])
URL = SANDBOX["url"]
API = SANDBOX["endpoints"]["broker"] + "/filetransfer"
TUS = API + "/upload/tus"
PARTIES = {party["name"]: party for party in SANDBOX["organizations"]}
AVSENDER, MOTTAKER = PARTIES["avsender"], PARTIES["mottaker"]
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = "altinn:broker.write altinn:broker.read altinn:events.subscribe"


def ok(what):
    print("ok " + what, flush=True)


def claims(party, **changes):
    """The claims of a correct grant; a change to None takes a claim away."""
    now = int(time.time())
    correct = {
        "aud": SANDBOX["endpoints"]["maskinporten"],
        "iss": party["clientId"],
        "scope": SCOPES,
        "iat": now,
        "exp": now + 100,
        "jti": str(uuid.uuid4()),
        "authorization_details": [
            {
                "type": "urn:altinn:systemuser",
                "systemuser_org": {"authority": "iso6523-actorid-upis", "ID": party["organization"]},
            }
        ],
    }
    return {name: value for name, value in (correct | changes).items() if value is not None}


def private_key(party):
    with open(party["privateKey"], encoding="ascii") as file:
        return file.read()


def ask_token(assertion):
    return requests.post(
        SANDBOX["endpoints"]["token"], data={"grant_type": GRANT, "assertion": assertion}, timeout=10
    )


def maskinporten_token(party):
    grant = jwt.encode(claims(party), private_key(party), algorithm="RS256", headers={"kid": party["keyId"]})
    answer = ask_token(grant)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def exchange(token):
    answer = requests.get(
        SANDBOX["endpoints"]["exchange"], headers={"Authorization": f"Bearer {token}"}, timeout=10
    )
    assert answer.status_code == 200, answer.text
    return answer.text.strip('"')


def headers(party):
    """The headers of a request as this organisation."""
    if "altinn" not in party:
        party["altinn"] = exchange(maskinporten_token(party))
    return {"Authorization": f"Bearer {party['altinn']}"}


def initialize(name, content, with_checksum=True):
    """A transfer from avsender to mottaker; its id."""
    body = {
        "fileName": name,
        "resourceId": SANDBOX["resource"],
        "sendersFileTransferReference": "stranger",
        "sender": AVSENDER["organization"],
        "recipients": [MOTTAKER["organization"]],
        "propertyList": {},
    }
    if with_checksum:
        body["checksum"] = hashlib.md5(content).hexdigest()
    answer = requests.post(API, json=body, headers=headers(AVSENDER), timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()["fileTransferId"]


def status(transfer):
    answer = requests.get(f"{API}/{transfer}", headers=headers(AVSENDER), timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(transfer, wanted):
    """Waits for a status, and gives the overview."""
    deadline = time.monotonic() + 30
    while True:
        overview = status(transfer)
        if overview["fileTransferStatus"] == wanted:
            return overview
        is_over = overview["fileTransferStatus"] in ("Failed", "Published")
        assert not is_over and time.monotonic() < deadline, f"waited for {wanted}: {overview}"
        time.sleep(0.1)


def download(transfer):
    answer = requests.get(f"{API}/{transfer}/download", headers=headers(MOTTAKER), timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.content


def assert_arrived(transfer, content):
    """It is published with its MD5, and what can be downloaded is what was sent."""
    overview = until(transfer, "Published")
    assert overview["checksum"] == hashlib.md5(content).hexdigest(), overview
    assert overview["fileTransferSize"] == len(content), overview
    assert download(transfer) == content
