use super::*;

#[test]
fn names_are_short_and_plain() {
    for good in ["a", "lobby", "user:7", "private:a.b_c-D:9", &"x".repeat(128)] {
        assert_eq!(RoomName::parse(good).as_ref().map(RoomName::as_str), Some(good));
    }
    for bad in ["", " ", "a b", "{a}", "é", "a/b", "a\n", "a\"", &"x".repeat(129)] {
        assert_eq!(RoomName::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn users_are_read_as_redis_keeps_them() {
    let user = User::from_redis(&Value::from("7"), &Value::from("2:a:b"));
    assert_eq!(user, Some(User { id: 7, username: "a:b".into() }));
    assert_eq!(User::from_redis(&Value::from("x"), &Value::from("1:a")), None);
    assert_eq!(User::from_redis(&Value::from("7"), &Value::from("a")), None);
}
