//! Attacks on access tokens (RFC 8725), as a table: each is wrong in one respect only, and signed with our own key wherever
//! a signature is not what is wrong. So an entry fails for the reason that its name gives.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto, jwk::Jwk};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{KeyError, PublicKey, Signer, Subject, Verifier, VerifyError};
use crate::{
    clock,
    config::{self, IssuerConfig},
    grants::{self, Rooms},
};

const LIFETIME: Duration = Duration::from_mins(15);
const FAMILY: Uuid = Uuid::from_u128(0x0b3c_0a8e_9e5d_4c58_9d0d_4d7a_0c3f_11aa);

/// A pair of keys in files, as a replica has them.
struct Keys {
    folder: TempDir,
    signing: EncodingKey,
    signer: Signer,
}

impl Keys {
    fn make() -> Self {
        Self::of(KeySize::Rsa2048)
    }

    fn of(size: KeySize) -> Self {
        let folder = TempDir::new().unwrap();
        let pair = KeyPair::generate(size).unwrap();
        let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let private = pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_ref()));
        write(&folder, "private.pem", &private);
        write(&folder, "public.pem", &pem::encode(&pem::Pem::new("PUBLIC KEY", public.as_ref())));
        let signer = Signer::read(&folder.path().join("private.pem"), LIFETIME).unwrap();
        Self { folder, signing: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(), signer }
    }

    fn public(&self) -> PathBuf {
        self.folder.path().join("public.pem")
    }

    fn verifier(&self) -> Verifier {
        Verifier::read(&[self.public()]).unwrap()
    }

    /// The public key as an attacker would put it into a header.
    fn jwk(&self) -> Value {
        let pem = std::fs::read(self.public()).unwrap();
        let jwk = Jwk::from_decoding_key(&DecodingKey::from_rsa_pem(&pem).unwrap(), Some(Algorithm::RS256)).unwrap();
        serde_json::to_value(jwk).unwrap()
    }

    /// A header that is right.
    fn header(&self) -> Map<String, Value> {
        object(json!({ "alg": "RS256", "typ": "at+jwt", "kid": self.signer.kid() }))
    }

    /// A token with any header and any claims, and a signature that is right for RS256.
    fn sign(&self, header: &Map<String, Value>, claims: &Map<String, Value>) -> String {
        self.sign_text(&serde_json::to_string(header).unwrap(), &serde_json::to_string(claims).unwrap())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature = crypto::sign(message.as_bytes(), &self.signing, Algorithm::RS256).unwrap();
        format!("{message}.{signature}")
    }

    fn with_header(&self, field: &str, value: impl Into<Value>) -> String {
        let mut header = self.header();
        header.insert(field.to_owned(), value.into());
        self.sign(&header, &claims())
    }

    fn without_header(&self, field: &str) -> String {
        let mut header = self.header();
        header.remove(field).unwrap();
        self.sign(&header, &claims())
    }

    fn with_claim(&self, name: &str, value: impl Into<Value>) -> String {
        let mut claims = claims();
        claims.insert(name.to_owned(), value.into());
        self.sign(&self.header(), &claims)
    }

    fn without_claim(&self, name: &str) -> String {
        let mut claims = claims();
        claims.remove(name).unwrap();
        self.sign(&self.header(), &claims)
    }
}

/// Made once: a key takes a good part of a second.
fn ours() -> &'static Keys {
    static OURS: OnceLock<Keys> = OnceLock::new();
    OURS.get_or_init(Keys::make)
}

fn theirs() -> &'static Keys {
    static THEIRS: OnceLock<Keys> = OnceLock::new();
    THEIRS.get_or_init(Keys::make)
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("no object: {other}"),
    }
}

/// Claims that are right.
fn claims() -> Map<String, Value> {
    let now = clock::unix_seconds();
    object(json!({
        "iss": "gatefold", "aud": "gatefold", "sub": "42", "username": "alice", "sid": FAMILY, "jti": Uuid::from_u128(7),
        "iat": now, "exp": now + 900,
    }))
}

/// What a token says, unverified.
fn claims_of(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn signature_of(token: &str) -> &str {
    token.rsplit('.').next().unwrap()
}

/// The token up to its last dot, the dot left out.
fn unsigned(token: &str) -> &str {
    token.rsplit_once('.').unwrap().0
}

#[track_caller]
fn assert_all_invalid<'a>(attacks: impl IntoIterator<Item = (&'a str, String)>) {
    let verifier = ours().verifier();
    for (attack, token) in attacks {
        assert_eq!(verifier.verify(&token).err(), Some(VerifyError::Invalid), "{attack}: {token}");
    }
}

#[test]
fn what_the_signer_signs_the_verifier_accepts() {
    let token = ours().signer.sign(42, "alice".into(), FAMILY, [].into(), LIFETIME).unwrap();
    let accepted = ours().verifier().verify(&token).unwrap();
    assert_eq!((accepted.user_id, &*accepted.username, accepted.family), (42, "alice", FAMILY));
    assert!(accepted.expires_at >= clock::unix_seconds() + 895);
}

/// Tokens of version 0.1.0 have no identity, and its verifier knows nothing of one: it ignores claims that it does not know.
#[test]
fn a_token_carries_the_identity_of_its_user_and_is_as_before_without() {
    let signer = &ours().signer;
    let verified = |token: String| ours().verifier().verify(&token).unwrap().subject();
    let without = signer.sign(42, "alice".into(), FAMILY, [].into(), LIFETIME).unwrap();
    assert_eq!(verified(without), Subject { id: 42, uid: None });
    let whose = Subject { id: 42, uid: Some(Uuid::from_u128(7)) };
    let with = signer.sign(whose, "alice".into(), FAMILY, [].into(), LIFETIME).unwrap();
    assert_eq!(verified(with), whose);
    assert!(whose.may_be(Uuid::from_u128(7)) && !whose.may_be(FAMILY) && Subject::from(42).may_be(FAMILY));
    assert_eq!(verified(ours().with_claim("something_new", json!("of a later version"))).id, 42);
    assert_all_invalid([("an identity that is none", ours().with_claim("uid", json!("nobody")))]);
}

#[test]
fn a_token_carries_the_rooms_that_were_granted_and_is_as_before_without() {
    let without = ours().signer.sign(42, "alice".into(), FAMILY, [].into(), LIFETIME).unwrap();
    assert_eq!(claims_of(&without).get("rooms"), None);
    assert!(ours().verifier().verify(&without).unwrap().rooms.is_empty());
    let token = ours().signer.sign(42, "alice".into(), FAMILY, ["private:a".into()].into(), LIFETIME).unwrap();
    assert_eq!(claims_of(&token)["rooms"], json!(["private:a"]));
    assert_eq!(*ours().verifier().verify(&token).unwrap().rooms, [Box::from("private:a")]);
}

#[test]
fn tokens_name_the_configured_issuer_and_audience_and_those_of_before_are_accepted_for_as_long_as_configured() {
    let config = |issuer: &str, accepted: &[&str]| IssuerConfig {
        issuer: issuer.to_owned(),
        audience: format!("{issuer}/api"),
        accepted_issuers: accepted.iter().map(ToString::to_string).collect(),
        accepted_audiences: accepted.iter().map(|issuer| format!("{issuer}/api")).collect(),
    };
    let (old, new) = ("https://old.example", "https://new.example");
    let keys = Keys::make();
    let path = keys.folder.path().join("private.pem");
    let token = |config: &IssuerConfig| {
        let signer = Signer::read(&path, LIFETIME).unwrap().issuing(config);
        signer.sign(42, "alice".into(), FAMILY, [].into(), LIFETIME).unwrap()
    };
    let accepts = |config: &IssuerConfig, token: &str| keys.verifier().accepting(config).verify(token).is_ok();
    let (of_old, of_new) = (token(&config(old, &[])), token(&config(new, &[])));
    assert_eq!(claims_of(&of_new)["iss"], json!(new));
    assert_eq!(claims_of(&of_new)["aud"], json!("https://new.example/api"));
    assert_eq!(claims_of(&of_new)["client_id"], json!("gatefold"));
    // The steps in which a cluster changes them: everybody accepts the new ones, then they are issued, then the old ones end.
    let steps = [config(old, &[old]), config(old, &[old, new]), config(new, &[old, new]), config(new, &[new])];
    let accepted = steps.each_ref().map(|config| (accepts(config, &of_old), accepts(config, &of_new)));
    assert_eq!(accepted, [(true, false), (true, true), (true, true), (false, true)]);
    let mixed = IssuerConfig { audience: "https://other.example/api".to_owned(), ..config(new, &[]) };
    assert!(!accepts(&mixed, &of_new), "the issuer alone is not enough");
    let by_default = token(&IssuerConfig::default());
    assert_eq!(
        (&claims_of(&by_default)["iss"], &claims_of(&by_default)["aud"]),
        (&json!("gatefold"), &json!("gatefold"))
    );
}

#[test]
fn a_token_of_version_0_1_0_which_names_no_client_is_accepted() {
    assert!(!claims().contains_key("client_id"));
    assert!(ours().verifier().verify(&ours().sign(&ours().header(), &claims())).is_ok());
}

#[test]
fn the_longest_token_that_can_be_is_still_looked_at() {
    let longest = |number| format!("private:{number:0>120}").into_boxed_str();
    let rooms: Rooms = (0..grants::MOST).map(longest).collect();
    let username = Arc::from("x".repeat(64));
    let strong = Keys::of(KeySize::Rsa4096);
    let longest = || format!("https://{}", "a".repeat(config::MAX_ISSUER - 8));
    let configured = IssuerConfig { issuer: longest(), audience: longest(), ..IssuerConfig::default() };
    // Replicas of version 0.1.0, which know the default only, look at 4 KiB.
    for (config, most) in [(IssuerConfig::default(), 4096), (configured, 5 * 1024)] {
        let signer = Signer::read(&strong.folder.path().join("private.pem"), LIFETIME).unwrap().issuing(&config);
        let subject = Subject { id: i64::MAX, uid: Some(FAMILY) };
        let token = signer.sign(subject, Arc::clone(&username), FAMILY, Arc::clone(&rooms), LIFETIME).unwrap();
        assert!(token.len() <= most, "{} bytes", token.len());
        let accepted = strong.verifier().accepting(&config).verify(&token).unwrap();
        assert_eq!(accepted.rooms.len(), 16);
        assert!(accepted.rooms.iter().all(|room| room.len() == 128));
    }
}

#[test]
fn rooms_that_could_not_have_been_granted_are_no_claim() {
    let keys = ours();
    let many: Vec<String> = (0..=grants::MOST).map(|number| format!("private:{number}")).collect();
    assert_all_invalid([
        ("no list", keys.with_claim("rooms", "private:a")),
        ("null", keys.with_claim("rooms", Value::Null)),
        ("no text", keys.with_claim("rooms", json!([1]))),
        ("too many", keys.with_claim("rooms", many)),
        ("an open room", keys.with_claim("rooms", json!(["lobby"]))),
        ("somebody's room", keys.with_claim("rooms", json!(["private:a", "user:7"]))),
        ("no name", keys.with_claim("rooms", json!(["private:"]))),
        ("no room", keys.with_claim("rooms", json!(["private:a b"]))),
    ]);
}

/// The baseline of every table below: what they change one thing of is accepted.
#[test]
fn a_token_put_together_by_hand_is_accepted() {
    let token = ours().sign(&ours().header(), &claims());
    assert_eq!(ours().verifier().verify(&token).unwrap().user_id, 42);
}

#[test]
fn the_algorithm_is_ours_to_choose() {
    let keys = ours();
    let claims = serde_json::to_string(&claims()).unwrap();
    let header = |alg: &str| {
        let mut header = keys.header();
        header.insert("alg".to_owned(), alg.into());
        serde_json::to_string(&header).unwrap()
    };
    let public = std::fs::read(keys.public()).unwrap();
    let public_der = pem::parse(&public).unwrap().into_contents();
    let signed = |name: &str, key: &EncodingKey, algorithm| {
        let message = message(&header(name), &claims);
        let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
        format!("{message}.{signature}")
    };
    assert_all_invalid([
        ("alg none without a signature", format!("{}.", message(&header("none"), &claims))),
        ("alg None", format!("{}.", message(&header("None"), &claims))),
        ("alg nOnE", format!("{}.", message(&header("nOnE"), &claims))),
        ("alg none with a signature", keys.sign_text(&header("none"), &claims)),
        ("alg empty", keys.sign_text(&header(""), &claims)),
        ("alg rs256", keys.sign_text(&header("rs256"), &claims)),
        ("alg null", keys.with_header("alg", Value::Null)),
        ("alg missing", keys.without_header("alg")),
        ("RS256 without a signature", format!("{}.", message(&header("RS256"), &claims))),
        ("HS256 over the public PEM", signed("HS256", &EncodingKey::from_secret(&public), Algorithm::HS256)),
        ("HS256 over the public DER", signed("HS256", &EncodingKey::from_secret(&public_der), Algorithm::HS256)),
        ("HS256 called RS256", signed("RS256", &EncodingKey::from_secret(&public), Algorithm::HS256)),
        ("HS512 over the public PEM", signed("HS512", &EncodingKey::from_secret(&public), Algorithm::HS512)),
        ("RS384 of our own key", signed("RS384", &keys.signing, Algorithm::RS384)),
        ("RS512 of our own key", signed("RS512", &keys.signing, Algorithm::RS512)),
        ("PS256 of our own key", signed("PS256", &keys.signing, Algorithm::PS256)),
        ("RS384 called RS256", signed("RS256", &keys.signing, Algorithm::RS384)),
        ("PS256 called RS256", signed("RS256", &keys.signing, Algorithm::PS256)),
        ("RS256 called ES256", signed("ES256", &keys.signing, Algorithm::RS256)),
        ("RS256 called EdDSA", signed("EdDSA", &keys.signing, Algorithm::RS256)),
    ]);
}

#[test]
fn the_type_is_explicit() {
    assert_all_invalid([
        ("typ JWT", ours().with_header("typ", "JWT")),
        ("typ of an ID token", ours().with_header("typ", "id+jwt")),
        ("typ with a suffix", ours().with_header("typ", "at+jwt2")),
        ("typ empty", ours().with_header("typ", "")),
        ("typ null", ours().with_header("typ", Value::Null)),
        ("typ a list", ours().with_header("typ", json!(["at+jwt"]))),
        ("typ missing", ours().without_header("typ")),
    ]);
}

#[test]
fn only_our_keys_count_whatever_the_header_offers() {
    let (keys, attacker) = (ours(), theirs());
    let forged = |fields: Value| {
        let mut header = keys.header();
        header.extend(object(fields));
        attacker.sign(&header, &claims())
    };
    let certificate = json!([base64::engine::general_purpose::STANDARD.encode("no certificate")]);
    assert_all_invalid([
        ("another key under our kid", attacker.sign(&keys.header(), &claims())),
        ("another key under its own kid", attacker.sign(&attacker.header(), &claims())),
        ("kid missing", keys.without_header("kid")),
        ("kid null", keys.with_header("kid", Value::Null)),
        ("kid empty", keys.with_header("kid", "")),
        ("kid a number", keys.with_header("kid", 1)),
        ("kid unknown", keys.with_header("kid", "another")),
        ("kid of another length", keys.with_header("kid", format!("{}=", keys.signer.kid()))),
        ("kid a path", keys.with_header("kid", "../../keys/public.pem")),
        ("kid the path of the very key", keys.with_header("kid", keys.public().to_str().unwrap())),
        ("kid a device", keys.with_header("kid", "/dev/null")),
        ("kid an injection", keys.with_header("kid", "x' UNION SELECT 'key")),
        ("kid with a NUL", keys.with_header("kid", format!("{}\0", keys.signer.kid()))),
        ("jwk of the attacker", forged(json!({ "jwk": attacker.jwk() }))),
        (
            "jwk of the attacker, kid of the attacker",
            forged(json!({ "jwk": attacker.jwk(), "kid": attacker.signer.kid() })),
        ),
        ("jku of the attacker", forged(json!({ "jku": "https://attacker.example/jwks.json" }))),
        ("x5u of the attacker", forged(json!({ "x5u": "https://attacker.example/key.pem" }))),
        ("x5c of the attacker", forged(json!({ "x5c": certificate }))),
    ]);
}

#[test]
fn an_extension_that_must_be_understood_is_not() {
    assert_all_invalid([
        ("crit", ours().with_header("crit", json!(["exp"]))),
        ("crit of something unknown", ours().with_header("crit", json!(["https://attacker.example/extension"]))),
        ("crit empty", ours().with_header("crit", json!([]))),
        ("crit not a list", ours().with_header("crit", "exp")),
    ]);
}

#[test]
fn every_claim_that_we_rely_on_must_be_there_and_right() {
    let now = clock::unix_seconds();
    let mut attacks: Vec<(&str, String)> = ["iss", "aud", "sub", "username", "sid", "jti", "iat", "exp"]
        .into_iter()
        .flat_map(|claim| {
            [
                (claim, ours().without_claim(claim)),
                (claim, ours().with_claim(claim, Value::Null)),
                (claim, ours().with_claim(claim, json!({}))),
                (claim, ours().with_claim(claim, json!([]))),
            ]
        })
        .collect();
    attacks.extend([
        ("iss of somebody else", ours().with_claim("iss", "attacker")),
        ("iss in another case", ours().with_claim("iss", "Gatefold")),
        ("iss a list with ours in it", ours().with_claim("iss", json!(["gatefold", "attacker"]))),
        ("aud of somebody else", ours().with_claim("aud", "attacker")),
        ("aud with a suffix", ours().with_claim("aud", "gatefold.example")),
        ("aud a list of others", ours().with_claim("aud", json!(["attacker"]))),
        ("aud a list with ours in it", ours().with_claim("aud", json!(["attacker", "gatefold"]))),
        ("sub a number", ours().with_claim("sub", 42)),
        ("sub not a number", ours().with_claim("sub", "alice")),
        ("sub empty", ours().with_claim("sub", "")),
        ("sub beyond 64 bits", ours().with_claim("sub", "9223372036854775808")),
        ("sid no UUID", ours().with_claim("sid", "42")),
        ("jti no UUID", ours().with_claim("jti", "1")),
        ("exp text", ours().with_claim("exp", (now + 900).to_string())),
        ("exp negative", ours().with_claim("exp", -1)),
        ("exp beyond 64 bits", ours().with_claim("exp", 1e300)),
        ("iat text", ours().with_claim("iat", now.to_string())),
        ("iat negative", ours().with_claim("iat", -1)),
        ("iat in the future", ours().with_claim("iat", now + 7)),
        ("nbf in the future", ours().with_claim("nbf", now + 7)),
        ("nbf text", ours().with_claim("nbf", "soon")),
    ]);
    assert_all_invalid(attacks);
}

#[test]
fn clocks_may_differ_by_five_seconds() {
    let (verifier, now) = (ours().verifier(), clock::unix_seconds());
    for (accepted, token) in [
        ("expired just now", ours().with_claim("exp", now)),
        ("expired within the leeway", ours().with_claim("exp", now - 4)),
        ("issued within the leeway", ours().with_claim("iat", now + 5)),
        ("not before, within the leeway", ours().with_claim("nbf", now + 5)),
        ("not before a time that is past", ours().with_claim("nbf", now - 60)),
    ] {
        assert!(verifier.verify(&token).is_ok(), "{accepted}");
    }
    for (expired, token) in [
        ("beyond the leeway", ours().with_claim("exp", now - 6)),
        ("long ago", ours().with_claim("exp", now - 86_400)),
        ("in 1970", ours().with_claim("exp", 0)),
    ] {
        assert_eq!(verifier.verify(&token), Err(VerifyError::Expired), "{expired}");
    }
}

/// Otherwise the error would tell a forger that everything but the time is right.
#[test]
fn an_expired_token_of_somebody_else_is_just_invalid() {
    let mut claims = claims();
    claims.insert("exp".to_owned(), 0.into());
    assert_all_invalid([("another key", theirs().sign(&ours().header(), &claims))]);
}

#[test]
fn a_token_is_accepted_as_it_was_signed_or_not_at_all() {
    let keys = ours();
    let token = keys.sign(&keys.header(), &claims());
    let other = keys.with_claim("sub", "43");
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let header_text = serde_json::to_string(&keys.header()).unwrap();
    let claims_text = serde_json::to_string(&claims()).unwrap();
    let twice = |text: &str, name: &str| text.replacen('{', &format!("{{\"{name}\":\"gatefold\","), 1);
    let mut raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    raw.insert(0, 0);
    assert_all_invalid([
        ("the signature of another token", format!("{}.{}", unsigned(&token), signature_of(&other))),
        ("the claims of another token", format!("{header}.{}.{signature}", other.split('.').nth(1).unwrap())),
        ("no signature", unsigned(&token).to_owned()),
        ("an empty signature", format!("{}.", unsigned(&token))),
        ("half a signature", token[..token.len() - 100].to_owned()),
        ("a longer signature", format!("{token}AAAA")),
        ("a signature with a zero before it", format!("{}.{}", unsigned(&token), URL_SAFE_NO_PAD.encode(raw))),
        ("padding", format!("{token}==")),
        ("padding in the header", format!("{header}=.{payload}.{signature}")),
        ("the other alphabet", format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+"))),
        ("a line break at the end", format!("{token}\n")),
        ("a space at the beginning", format!(" {token}")),
        ("a NUL at the end", format!("{token}\0")),
        ("garbage after it", format!("{token} garbage")),
        ("a fourth part", format!("{token}.{signature}")),
        ("an empty fourth part", format!("{token}.")),
        ("an empty part before it", format!(".{token}")),
        ("five parts, like an encrypted token", format!("{header}.{payload}.{payload}.{payload}.{signature}")),
        ("only dots", "..".to_owned()),
        ("nothing", String::new()),
        ("not base64", "<script>.alert(1).</script>".to_owned()),
        ("not JSON", keys.sign_text("not json", &claims_text)),
        ("claims not JSON", keys.sign_text(&header_text, "not json")),
        ("claims a list", keys.sign_text(&header_text, "[]")),
        ("claims with more behind them", keys.sign_text(&header_text, &format!("{claims_text}{{}}"))),
        ("a header a list", keys.sign_text("[]", &claims_text)),
        ("typ twice", keys.sign_text(&twice(&header_text, "typ"), &claims_text)),
        ("iss twice", keys.sign_text(&header_text, &twice(&claims_text, "iss"))),
        ("as JSON", json!({ "payload": payload, "protected": header, "signature": signature }).to_string()),
        ("huge", keys.with_claim("filler", "x".repeat(5_000))),
        ("1 MB of a's", "a".repeat(1_000_000)),
        ("1 MB of dots", ".".repeat(1_000_000)),
        ("Unicode", "\u{1f511}.\u{1f511}.\u{1f511}".to_owned()),
    ]);
}

/// Base64 of 256 bytes leaves four bits over in its last character: were they ignored, one token had sixteen spellings.
#[test]
fn the_bits_left_over_in_the_last_character_are_not_ignored() {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let token = ours().sign(&ours().header(), &claims());
    let last = ALPHABET.iter().position(|&character| Some(&character) == token.as_bytes().last()).unwrap();
    let spelled = (1..16).map(|bits| {
        let other = char::from(ALPHABET[last ^ bits]);
        ("another spelling", format!("{}{other}", &token[..token.len() - 1]))
    });
    assert_all_invalid(spelled);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_text_is_no_token(text in any::<String>()) {
        prop_assert_eq!(ours().verifier().verify(&text), Err(VerifyError::Invalid));
    }

    #[test]
    fn a_token_with_any_changed_character_is_invalid(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.=-]") {
        let token = ours().sign(&ours().header(), &claims());
        let at = at.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != token);
        prop_assert_eq!(ours().verifier().verify(&changed), Err(VerifyError::Invalid));
    }

    #[test]
    fn any_json_in_the_right_places_does_no_harm(header in "\\PC{0,40}", payload in "\\PC{0,40}") {
        prop_assert_eq!(ours().verifier().verify(&ours().sign_text(&header, &payload)), Err(VerifyError::Invalid));
    }
}

#[test]
fn while_keys_are_rotated_tokens_of_both_are_accepted() {
    let both = Verifier::read(&[ours().public(), theirs().public()]).unwrap();
    for keys in [ours(), theirs()] {
        assert!(both.knows(keys.signer.kid()));
        assert!(both.verify(&keys.sign(&keys.header(), &claims())).is_ok());
    }
    let swapped = ours().sign(&theirs().header(), &claims());
    assert_eq!(both.verify(&swapped), Err(VerifyError::Invalid));
}

#[test]
fn several_keys_may_be_in_one_file() {
    let folder = TempDir::new().unwrap();
    let [ours_pem, theirs_pem] = [ours(), theirs()].map(|keys| std::fs::read_to_string(keys.public()).unwrap());
    let path = write(&folder, "public.pem", &format!("{ours_pem}\n{theirs_pem}{ours_pem}"));
    let verifier = Verifier::read(&[&path]).unwrap();
    let kids: Vec<_> = verifier.keys().iter().map(PublicKey::kid).collect();
    assert_eq!(kids, [ours().signer.kid(), theirs().signer.kid()], "each once, in order");
    assert!(verifier.keys().iter().all(|key| key.bits() == 2048 && key.path() == path));
}

/// RFC 7517: whoever else verifies needs these, and nobody may learn more.
#[test]
fn the_keys_are_published_by_name_and_without_private_parts() {
    let jwks = serde_json::to_value(ours().verifier().jwks()).unwrap();
    let key = object(jwks["keys"][0].clone());
    let names: Vec<_> = key.keys().map(String::as_str).collect();
    assert_eq!(names, ["alg", "e", "kid", "kty", "n", "use"]);
    assert_eq!([&key["alg"], &key["kty"], &key["use"], &key["e"]], ["RS256", "RSA", "sig", "AQAB"]);
    assert_eq!(key["kid"], ours().signer.kid());
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
}

/// The public half of an RSA key of 1024 bits.
const SHORT: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQClMnn6lVWOht/bIKSCpeXrkmSx
ZmhXCJFtpcANb8YVW6mNyxkQrHtiQPZqax0slRZX4DbbyeeyYCB17Dg1pzTpbF4/
lIQA2T5V/Mdsj9fWBWcxu9OSIkg60J4Anu76UjEXJ3PPdEMJBdgVfy+2ns/0ctU9
40EylkVJ+jlnPwh2hwIDAQAB
-----END PUBLIC KEY-----
";

/// The public half of an EC key (P-256).
const ELLIPTIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1bCAo3TnLjdCl6kNW+SsQhFm1CH4
mRQu1xaWKjahNneT8G/s3ly88OpXbduOCwvOjsBBIMOLCldFTRlrxAVH8w==
-----END PUBLIC KEY-----
";

#[test]
fn a_public_key_must_be_rsa_long_enough_and_public() {
    let folder = TempDir::new().unwrap();
    let private = std::fs::read_to_string(ours().folder.path().join("private.pem")).unwrap();
    let public = std::fs::read_to_string(ours().public()).unwrap();
    for (what, text, complaint) in [
        ("short", SHORT, "1024 bits are too few"),
        ("elliptic", ELLIPTIC, "not an RSA"),
        ("private", &private, "not a public key"),
        ("both in one file", &format!("{private}{public}"), "not a public key"),
        ("both in one file, the other way round", &format!("{public}{private}"), "not a public key"),
        ("a good one and a short one", &format!("{public}{SHORT}"), "1024 bits are too few"),
        ("cut off", &public[..public.len() - 30], "not an RSA public key"),
        ("cut off in the second", &format!("{public}{}", &public[..100]), "cut off"),
        ("cut off in the first of two", &format!("{}{public}", &public[..100]), "not an RSA public key"),
        ("empty", "", "not a public key"),
        ("not PEM", "ssh-rsa AAAA", "not a public key"),
        ("not base64", "-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n", "not an RSA public key"),
        ("nothing in it", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "not an RSA"),
    ] {
        let path = write(&folder, "key.pem", text);
        let Err(error) = Verifier::read(&[&path]) else { panic!("{what} was accepted") };
        let said = error.to_string();
        assert!(
            said.contains(complaint) && said.contains("key.pem") && said.contains("generate-keys.sh"),
            "{what}: {said}"
        );
    }
}

#[test]
fn a_private_key_must_be_rsa_and_private() {
    let folder = TempDir::new().unwrap();
    let public = std::fs::read_to_string(ours().public()).unwrap();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (what, text, complaint) in [
        ("public", public.as_str(), "holds a PUBLIC KEY"),
        ("encrypted", encrypted, "holds a ENCRYPTED PRIVATE KEY"),
        (
            "garbage in PEM",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "not a usable RSA private key",
        ),
        ("empty", "", "not a private key in PEM form"),
    ] {
        let path = write(&folder, "key.pem", text);
        let Err(error) = Signer::read(&path, Duration::from_secs(1)) else { panic!("{what} was accepted") };
        let said = error.to_string();
        assert!(
            said.contains(complaint) && said.contains("key.pem") && said.contains("generate-keys.sh"),
            "{what}: {said}"
        );
    }
}

#[test]
fn a_key_that_is_not_there_is_named() {
    let missing = Path::new("/nonexistent/public.pem");
    let Err(error) = Verifier::read(&[missing]) else { panic!("there is no such file") };
    assert!(matches!(&error, KeyError::Unreadable(path, _) if path == missing), "{error}");
    assert!(error.to_string().contains("./generate-keys.sh"), "{error}");
}
