#!/bin/bash
# A token of the local sandbox: docs/sandbox-token.sh DIR sender|recipient write|read
set -euo pipefail
dir=$1 role=$2 scope=$3
config=$dir/$role.toml
value() { sed -n "s/^$1 = \"\?\([^\"]*\)\"\?$/\1/p" "$config"; }
url=$(value platform_url)
key=$(sed -n 's/^private_key = { file = "\(.*\)" }$/\1/p' "$config")
b64() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
now=$(date +%s)
header=$(printf '{"alg":"RS256","kid":"%s"}' "$(value key_id)" | b64)
claims=$(printf '{"aud":"%s/","iss":"%s","scope":"altinn:broker.%s","iat":%d,"exp":%d,"jti":"%s","authorization_details":[{"type":"urn:altinn:systemuser","systemuser_org":{"authority":"iso6523-actorid-upis","ID":"%s"}}]}' \
  "$url" "$(value client_id)" "$scope" "$now" $((now + 100)) "$(cat /proc/sys/kernel/random/uuid)" "$(value organization)" | b64)
grant=$header.$claims.$(printf '%s' "$header.$claims" | openssl dgst -sha256 -sign "$key" -binary | b64)
maskinporten=$(curl -fsS "$url/token" -d grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer -d "assertion=$grant" \
  | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
curl -fsS "$url/authentication/api/v1/exchange/maskinporten" -H "Authorization: Bearer $maskinporten" | tr -d '"'
