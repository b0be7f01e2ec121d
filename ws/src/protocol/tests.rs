use proptest::prelude::*;

use super::*;

#[test]
fn messages_are_read_with_or_without_an_id_and_whatever_else_they_hold() {
    assert!(matches!(parse(r#"{"type":"ping"}"#).message, Some(ClientMessage::Ping)));
    let reauth = parse(r#" {"later":[1],"type":"reauth","access":"a\u002eb"}"#).message;
    assert!(matches!(reauth, Some(ClientMessage::Reauth { access }) if access == "a.b"));
    assert!(matches!(parse(r#"{"type":"dance"}"#).message, Some(ClientMessage::Unknown)));
    assert_eq!(parse(r#"{"type":"ping","id":"a"}"#).id, Some(MessageId::Text("a".into())));
    assert_eq!(parse(r#"{"type":"ping","id":7}"#).id, Some(MessageId::Number(7.into())));
    assert_eq!(parse(r#"{"type":"ping","id":null}"#).id, None);
}

#[test]
fn messages_about_rooms_need_a_room_and_what_is_asked_for() {
    let request = |text| match parse(text).message {
        Some(ClientMessage::InRoom { room, request }) => Some((room, request)),
        _ => None,
    };
    let data = request(r#"{"type":"publish","room":"a\u0062","data": {"x": [1.0]} }"#);
    assert!(
        matches!(data, Some((room, RoomRequest::Publish { data })) if room == "ab" && data.get() == r#"{"x": [1.0]}"#)
    );
    let null = request(r#"{"type":"publish","room":"a","data":null}"#);
    assert!(matches!(null, Some((_, RoomRequest::Publish { data })) if data.get() == "null"));
    let join = request(r#"{"type":"join","room":"a","since":"17-2","typing":true}"#);
    assert!(matches!(join, Some((_, RoomRequest::Join { since: Some(StreamId(17, 2)) }))));
    for text in [
        r#"{"type":"join"}"#,
        r#"{"type":"join","room":7}"#,
        r#"{"type":"join","room":"a","since":7}"#,
        r#"{"type":"join","room":"a","since":"+1-1"}"#,
        r#"{"type":"join","room":"a","since":"1"}"#,
        r#"{"type":"join","room":"a","since":"1-18446744073709551615"}"#,
        r#"{"type":"publish","room":"a"}"#,
        r#"{"type":"typing","room":"a"}"#,
        r#"{"type":"typing","room":"a","typing":1}"#,
    ] {
        assert!(parse(text).message.is_none(), "{text}");
    }
}

#[test]
fn answers_about_rooms_look_as_in_the_contract() {
    let room = RoomName::parse("lobby").expect("a name");
    let user = User { id: 7, username: "grace".into() };
    let users: Arc<RawValue> = serde_json::value::to_raw_value(&[&user]).expect("JSON").into();
    let message = RawValue::from_string(r#"{"room":"lobby","id":"1-0"}"#.to_owned()).expect("JSON");
    let joined = ServerMessage::Joined {
        room: room.clone(),
        count: 1,
        users,
        typing: vec![user.clone()],
        messages: vec![message.clone()],
        recovered: true,
        last: "1-0".to_owned(),
    };
    insta::assert_snapshot!(joined.to_json(Some(&MessageId::Number(7.into()))), @r#"{"type":"joined","payload":{"room":"lobby","count":1,"users":[{"id":7,"username":"grace"}],"typing":[{"id":7,"username":"grace"}],"messages":[{"room":"lobby","id":"1-0"}],"recovered":true,"last":"1-0"},"id":7}"#);
    let presence = ServerMessage::Presence { room: room.clone(), event: PresenceEvent::Leave, user: user.clone() };
    insta::assert_snapshot!(presence.to_json(None), @r#"{"type":"presence","payload":{"room":"lobby","event":"leave","user":{"id":7,"username":"grace"}}}"#);
    let typing = ServerMessage::Typing { room, user, typing: true, until: 5 };
    insta::assert_snapshot!(typing.to_json(None), @r#"{"type":"typing","payload":{"room":"lobby","user":{"id":7,"username":"grace"},"typing":true,"until":5}}"#);
    insta::assert_snapshot!(super::message(&message), @r#"{"type":"message","payload":{"room":"lobby","id":"1-0"}}"#);
}

#[test]
fn what_is_no_message_is_invalid_and_still_gives_its_id() {
    for text in [
        "",
        "ping",
        "[]",
        r#"["ping",1]"#,
        "\"ping\"",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"ping""#,
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"ping","id":[1]}"#,
        r#"{"type":"ping","id":1e999}"#,
        r#"{"type":"ping"} {}"#,
    ] {
        let envelope = parse(text);
        assert!(envelope.message.is_none() && envelope.id.is_none(), "{text}");
    }
    for text in [r#"{"type":"reauth","id":1}"#, r#"{"type":"reauth","id":1,"access":2}"#, r#"{"id":1}"#] {
        let envelope = parse(text);
        assert!(envelope.message.is_none() && envelope.id == Some(MessageId::Number(1.into())), "{text}");
    }
}

#[test]
fn answers_look_as_in_the_contract() {
    let error = ServerMessage::error(ErrorCode::TokenExpired);
    insta::assert_snapshot!(error.to_json(None), @r#"{"type":"error","payload":{"code":"token_expired","message":"The access token has expired, please reauthenticate","requireReauth":true}}"#);
    let pong = ServerMessage::Pong { timestamp: 1 };
    insta::assert_snapshot!(pong.to_json(Some(&MessageId::Text("a\"b".into()))), @r#"{"type":"pong","payload":{"timestamp":1},"id":"a\"b"}"#);
    insta::assert_snapshot!(pong.to_json(Some(&MessageId::Number(7.into()))), @r#"{"type":"pong","payload":{"timestamp":1},"id":7}"#);
    let connected = ServerMessage::Connected {
        user_id: 1,
        username: "alice".into(),
        expires_at: 2,
        connection_id: uuid::Uuid::nil(),
        replica: uuid::Uuid::nil(),
    };
    insta::assert_snapshot!(connected.to_json(None), @r#"{"type":"connected","payload":{"userId":1,"username":"alice","expiresAt":2,"connectionId":"00000000-0000-0000-0000-000000000000","replica":"00000000-0000-0000-0000-000000000000"}}"#);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        parse(&text);
        parse(&format!("{{{text}"));
    }
}
