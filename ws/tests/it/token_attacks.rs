//! Forged tokens, in every way that they can come: each is refused as documented, and none upsets the replica.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gatefold_shared::clock;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Gatefold, refusal, refused, shared};

struct Forge {
    header: Value,
    claims: Value,
    private: Vec<u8>,
    public: Vec<u8>,
    good: String,
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

fn encode(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

impl Forge {
    fn of(gatefold: &Gatefold) -> Self {
        let read = |name| std::fs::read(gatefold.cluster.keys_dir().join(name)).expect("a key");
        let good = gatefold.token();
        Self {
            header: part(&good, 0),
            claims: part(&good, 1),
            private: read("private.pem"),
            public: read("public.pem"),
            good,
        }
    }

    /// Signed with the real key, but with another header or other claims.
    fn signed(&self, header: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
        let change = |json: &Value, changes: &[(&str, Value)]| {
            let mut json = json.clone();
            for (name, value) in changes {
                json[*name] = value.clone();
            }
            json.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
            json
        };
        let signed = format!("{}.{}", encode(&change(&self.header, header)), encode(&change(&self.claims, claims)));
        let key = EncodingKey::from_rsa_pem(&self.private).expect("a key");
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::RS256).expect("a signature");
        format!("{signed}.{signature}")
    }

    fn unsigned(&self, algorithm: &str) -> String {
        let mut header = self.header.clone();
        header["alg"] = json!(algorithm);
        format!("{}.{}.", encode(&header), encode(&self.claims))
    }

    /// The public key, which everybody knows, as the secret of an HMAC.
    fn symmetric(&self) -> String {
        let mut header: Header = serde_json::from_value(self.header.clone()).expect("a header");
        header.alg = Algorithm::HS256;
        jsonwebtoken::encode(&header, &self.claims, &EncodingKey::from_secret(&self.public)).expect("a token")
    }

    fn all(&self) -> Vec<(&'static str, String)> {
        let kid = |kid: Value| self.signed(&[("kid", kid)], &[]);
        let claim = |name, value: Value| self.signed(&[], &[(name, value)]);
        let [head, body, signature] = self.good.split('.').collect::<Vec<_>>().try_into().expect("three parts");
        vec![
            ("no algorithm", self.unsigned("none")),
            ("no algorithm, in capitals", self.unsigned("NONE")),
            ("an HMAC with the public key", self.symmetric()),
            ("another algorithm in the header", self.signed(&[("alg", json!("RS512"))], &[])),
            ("the type of any JWT", self.signed(&[("typ", json!("JWT"))], &[])),
            ("no type", self.signed(&[("typ", Value::Null)], &[])),
            ("an unknown key", kid(json!("unknown"))),
            ("a path as the key", kid(json!("../../etc/passwd"))),
            ("no key", kid(Value::Null)),
            ("a critical extension", self.signed(&[("crit", json!(["exp"]))], &[])),
            ("another issuer", claim("iss", json!("evil"))),
            ("another audience", claim("aud", json!("evil"))),
            ("no expiry", claim("exp", Value::Null)),
            ("an expiry in words", claim("exp", json!("never"))),
            ("no session", claim("sid", Value::Null)),
            ("a user that is no number", claim("sub", json!("alice"))),
            ("a user beyond all numbers", claim("sub", json!("99999999999999999999"))),
            ("issued in the future", claim("iat", json!(clock::unix_seconds() + 3600))),
            ("not yet valid", claim("nbf", json!(clock::unix_seconds() + 3600))),
            ("other claims under a good signature", {
                let mut claims = self.claims.clone();
                claims["sub"] = json!("1");
                format!("{head}.{}.{signature}", encode(&claims))
            }),
            ("no signature", format!("{head}.{body}.")),
            ("two parts", format!("{head}.{body}")),
            ("four parts", format!("{}.x", self.good)),
            ("truncated", self.good[..self.good.len() - 2].to_owned()),
            ("very long", format!("{head}.{}.{signature}", "A".repeat(8000))),
        ]
    }
}

#[tokio::test]
async fn forged_tokens_open_no_socket() {
    let gatefold = shared().await;
    let forge = Forge::of(gatefold);
    let url = gatefold.direct();
    for (what, token) in forge.all() {
        let (status, headers, problem) = refusal(&format!("{url}?token={token}"), &[]).await;
        assert_eq!((status, &problem["code"]), (401, &json!("invalid_token")), "{what}");
        assert_eq!(headers["www-authenticate"], r#"Bearer error="invalid_token""#, "{what}");
        let in_header = refused(&url, &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(in_header, (401, "invalid_token".to_owned()), "{what}");
        let mut client = Client::connect(&url).await;
        client.say(json!({"type": "auth", "access": token})).await;
        assert_eq!(client.closed().await, (4401, "invalid_token".to_owned()), "{what}");
    }
}

#[tokio::test]
async fn forged_tokens_are_refused_through_nginx_too() {
    let gatefold = shared().await;
    for (what, token) in Forge::of(gatefold).all() {
        let url = format!("{}?token={token}", gatefold.cluster.ws_url());
        assert_eq!(refused(&url, &[]).await, (401, "invalid_token".to_owned()), "{what}");
    }
}

#[tokio::test]
async fn forged_tokens_do_not_renew_a_socket_and_do_not_end_it() {
    let gatefold = shared().await;
    let forge = Forge::of(gatefold);
    for (what, token) in forge.all() {
        let mut client = gatefold.client().await;
        let error = client.ask(json!({"type": "reauth", "access": token})).await;
        assert_eq!(error["payload"]["code"], "reauth_failed", "{what}");
        assert_eq!(error["payload"]["requireReauth"], true, "{what}");
        client.is_served().await;
    }
}

#[tokio::test]
async fn a_token_that_is_changed_in_nothing_is_good() {
    let gatefold = shared().await;
    let forge = Forge::of(gatefold);
    gatefold.client_with(&forge.signed(&[], &[("jti", json!(Uuid::new_v4()))])).await.is_served().await;
}

#[tokio::test]
async fn an_expired_token_is_told_apart_from_a_forged_one() {
    let gatefold = shared().await;
    let expired = Forge::of(gatefold).signed(&[], &[("exp", json!(clock::unix_seconds() - 3600))]);
    let (status, headers, problem) = refusal(&format!("{}?token={expired}", gatefold.direct()), &[]).await;
    assert_eq!((status, &problem["code"]), (401, &json!("token_expired")));
    assert_eq!(headers["www-authenticate"], r#"Bearer error="invalid_token""#);
}
