"""Sends a file and receives it: send-and-receive.py DIR, where DIR is the sandbox's."""

import hashlib
import json
import sys
import time
import uuid

import jwt  # PyJWT[crypto]
import requests

with open(f"{sys.argv[1]}/sandbox.json", encoding="utf-8") as file:
    SANDBOX = json.load(file)
ENDPOINTS = SANDBOX["endpoints"]
API = f"{ENDPOINTS['broker']}/filetransfer"
ORGANIZATIONS = {party["name"]: party for party in SANDBOX["organizations"]}


def altinn(name, scope):
    """A session of an organisation: a grant to Maskinporten, its token to Altinn."""
    party = ORGANIZATIONS[name]
    now = int(time.time())
    claims = {
        "aud": ENDPOINTS["maskinporten"],
        "iss": party["clientId"],
        "scope": scope,
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
    with open(party["privateKey"], encoding="ascii") as key:
        grant = jwt.encode(claims, key.read(), algorithm="RS256", headers={"kid": party["keyId"]})
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": grant}
    maskinporten = requests.post(ENDPOINTS["token"], data=form, timeout=30)
    maskinporten.raise_for_status()
    bearer = f"Bearer {maskinporten.json()['access_token']}"
    exchanged = requests.get(ENDPOINTS["exchange"], headers={"Authorization": bearer}, timeout=30)
    exchanged.raise_for_status()
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {exchanged.text}"
    return session


def ask(session, method, address, **options):
    answer = session.request(method, address, timeout=30, **options)
    answer.raise_for_status()
    return answer


# Send.
content = "Hei på deg\n".encode()
sender = altinn("avsender", "altinn:broker.write")
transfer = {
    "fileName": "hello.txt",
    "resourceId": SANDBOX["resource"],
    "sendersFileTransferReference": "case-42",
    "sender": ORGANIZATIONS["avsender"]["organization"],
    "recipients": [ORGANIZATIONS["mottaker"]["organization"]],
    "propertyList": {},
    "checksum": hashlib.md5(content).hexdigest(),
}
sent = ask(sender, "POST", API, json=transfer).json()["fileTransferId"]
octets = {"Content-Type": "application/octet-stream"}
ask(sender, "POST", f"{API}/{sent}/upload", data=content, headers=octets)
while (status := ask(sender, "GET", f"{API}/{sent}").json()["fileTransferStatus"]) != "Published":
    if status == "Failed":
        sys.exit("Altinn did not publish the file")
    time.sleep(0.5)
print("published")

# Receive.
recipient = altinn("mottaker", "altinn:broker.read")
query = {"resourceId": SANDBOX["resource"], "role": "Recipient", "status": "Published"}
for found in ask(recipient, "GET", API, params=query | {"recipientStatus": "Initialized"}).json():
    overview = ask(recipient, "GET", f"{API}/{found}").json()
    received = ask(recipient, "GET", f"{API}/{found}/download").content
    if hashlib.md5(received).hexdigest() != overview["checksum"]:
        sys.exit("what arrived is not what was sent")
    # Once the file is safe, and not before.
    ask(recipient, "POST", f"{API}/{found}/confirmdownload")
    print(f"received {overview['fileName']}, {len(received)} bytes")
