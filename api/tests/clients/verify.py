"""Verifies an access token with authlib's validator of RFC 9068, as a service of somebody else does.

    verify.py URL TOKEN ISSUER AUDIENCE    URL is where ISSUER can be reached
"""

import sys
from urllib.parse import urlsplit

import httpx
from authlib.oauth2.rfc6750.errors import InvalidTokenError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator

url, token, issuer, audience = sys.argv[1:]
metadata = AuthorizationServerMetadata(httpx.get(f"{url}/.well-known/oauth-authorization-server").raise_for_status().json())
metadata.validate_issuer()
metadata.validate_jwks_uri()
metadata.validate_grant_types_supported()
metadata.validate_service_documentation()
assert metadata["issuer"] == issuer
jwks = httpx.get(url + urlsplit(metadata["jwks_uri"]).path).raise_for_status().json()


class Validator(JWTBearerTokenValidator):
    def get_jwks(self):
        return jwks


def validate(issuer, audience, token):
    validator = Validator(issuer=issuer, resource_server=audience)
    claims = validator.authenticate_token(token)
    validator.validate_token(claims, [], None)
    return claims


claims = validate(issuer, audience, token)
assert claims["client_id"] == "gatefold", claims
for refused in [
    ("https://other.example", audience, token),
    (issuer, "https://other.example", token),
    (issuer, audience, token[:-8] + "AAAAAAAA"),
]:
    try:
        validate(*refused)
    except InvalidTokenError:
        continue
    raise AssertionError(f"accepted for {refused[:2]}")
print("verified")
