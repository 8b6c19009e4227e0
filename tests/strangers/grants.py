"""PyJWT: grants that Maskinporten takes and grants that it refuses; its tokens, and Altinn's, by their keys."""

import time
import uuid

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from altinn import AVSENDER, MOTTAKER, SANDBOX, URL, ask_token, claims, exchange, maskinporten_token, ok, private_key


def grant(key=None, algorithm="RS256", headers=None, **changes):
    return jwt.encode(
        claims(AVSENDER, **changes),
        None if algorithm == "none" else key or private_key(AVSENDER),
        algorithm=algorithm,
        headers={"kid": AVSENDER["keyId"]} if headers is None else headers,
    )


def verify(token, metadata, **expected):
    """As a resource server does: the keys from the metadata, then signature, issuer and times."""
    metadata = requests.get(metadata, timeout=10).json()
    keys = jwt.PyJWKSet.from_dict(requests.get(metadata["jwks_uri"], timeout=10).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    required = {"require": ["exp", "iat", "iss"]}
    return jwt.decode(
        token, key, algorithms=["RS256"], issuer=metadata["issuer"], options={"verify_aud": False, **required}, **expected
    )


def main():
    assert "not Altinn" == requests.get(f"{URL}/jwk", timeout=10).headers["x-formidlingd-sandbox"]
    token = maskinporten_token(AVSENDER)
    verified = verify(token, SANDBOX["endpoints"]["maskinportenMetadata"])
    assert verified["consumer"]["ID"] == AVSENDER["organization"], verified
    details = verified["authorization_details"][0]
    assert details["systemuser_org"]["ID"] == AVSENDER["organization"], verified
    ok("PyJWT's grant is accepted, and the token verifies with Maskinporten's keys")

    altinn = verify(exchange(token), SANDBOX["endpoints"]["altinnMetadata"])
    assert altinn["scope"] == verified["scope"], altinn
    assert altinn["exp"] - altinn["iat"] == 1800, altinn
    ok("PyJWT verifies the exchanged token with Altinn's keys")

    now = int(time.time())
    used = str(uuid.uuid4())
    assert ask_token(grant(jti=used)).status_code == 200
    other = rsa.generate_private_key(65537, 2048)
    curve = ec.generate_private_key(ec.SECP256R1())
    audience = SANDBOX["endpoints"]["maskinporten"]
    wrong = {
        "an audience without its slash": (grant(aud=audience.rstrip("/")), "MP-110"),
        "another kid": (grant(headers={"kid": "somebody's"}), None),
        "no kid": (grant(headers={}), None),
        "another client's key": (grant(key=private_key(MOTTAKER)), "MP-124"),
        "a key that nobody knows": (grant(key=other), "MP-124"),
        "an unknown client": (grant(iss=str(uuid.uuid4())), "MP-100"),
        "an end that has passed": (grant(iat=now - 200, exp=now - 100), "MP-130"),
        "an issue time to come": (grant(iat=now + 60, exp=now + 100), None),
        "a validity of more than 120 s": (grant(exp=now + 130), "MP-011"),
        "a used jti": (grant(jti=used), "MP-012"),
        "a further claim": (grant(sub="somebody"), "MP-011"),
        "ES256": (grant(key=curve, algorithm="ES256"), "MP-011"),
        "PS256": (grant(algorithm="PS256"), "MP-011"),
        "HS256": (grant(key="a secret of at least thirty-two bytes", algorithm="HS256"), "MP-011"),
        "no signature": (grant(algorithm="none"), "MP-011"),
    }
    for what, (assertion, number) in wrong.items():
        answer = ask_token(assertion)
        assert answer.status_code == 400, f"{what}: {answer.status_code} {answer.text}"
        body = answer.json()
        assert body["error"] == "invalid_grant", f"{what}: {body}"
        assert number is None or body["error_uri"].endswith(number), f"{what}: {body}"
    ok(f"PyJWT's wrong grants are refused: {', '.join(wrong)}")

    strangers = {"type": "urn:altinn:systemuser"}
    strangers["systemuser_org"] = {"authority": "iso6523-actorid-upis", "ID": MOTTAKER["organization"]}
    answer = ask_token(grant(authorization_details=[strangers]))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == "invalid_altinn_customer_configuration", answer.text
    answer = ask_token(grant(scope="altinn:serviceowner"))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), answer.text
    ok("PyJWT gets no token for another's system user, nor for a scope that the client lacks")


main()
