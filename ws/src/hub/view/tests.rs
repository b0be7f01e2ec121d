use std::time::Duration;

use super::*;

fn user(id: i64) -> User {
    User { id, username: format!("user-{id}").into() }
}

fn view() -> View {
    View::new(RoomName::parse("lobby").expect("a name"))
}

fn nobody(_: i64) -> bool {
    false
}

/// What members hear, in short.
fn short(announcements: Vec<Announcement>) -> Vec<String> {
    let one = |announcement: Announcement| match announcement.message {
        ServerMessage::Presence { event: PresenceEvent::Join, user, .. } => format!("+{}", user.id),
        ServerMessage::Presence { event: PresenceEvent::Leave, user, .. } => format!("-{}", user.id),
        ServerMessage::Typing { user, typing, .. } => {
            assert_eq!(announcement.except, Some(user.id), "nobody hears of their own typing");
            format!("{}{}", if typing { "types " } else { "stops " }, user.id)
        }
        other => panic!("unexpected {other:?}"),
    };
    announcements.into_iter().map(one).collect()
}

fn apply(view: &mut View, event: &str) -> Vec<String> {
    short(view.apply(&Event::parse(event).expect("an event"), nobody, Instant::now()))
}

fn state(users: &[i64]) -> RoomState {
    RoomState { users: users.iter().map(|&id| user(id)).collect(), ..RoomState::default() }
}

fn listed(view: &mut View) -> Vec<User> {
    serde_json::from_str(view.list().get()).expect("users")
}

#[test]
fn arrivals_and_departures_are_told_once() {
    let mut view = view();
    let join = r#"{"seq":1,"join":[{"id":1,"username":"user-1"},{"id":2,"username":"user-2"}]}"#;
    assert_eq!(apply(&mut view, join), ["+1", "+2"]);
    assert_eq!(apply(&mut view, join), [""; 0]);
    assert_eq!(listed(&mut view), [user(1), user(2)]);
    let leave = r#"{"seq":2,"leave":[{"id":1,"username":"user-1"}]}"#;
    assert_eq!(apply(&mut view, leave), ["-1"]);
    assert_eq!(apply(&mut view, leave), [""; 0]);
    assert_eq!(listed(&mut view), [user(2)]);
}

#[test]
fn who_is_here_does_not_leave_because_redis_says_so() {
    let mut view = view();
    short(view.reconcile(&state(&[1, 2]), nobody, Instant::now()));
    let event = Event::parse(r#"{"seq":1,"leave":[{"id":1,"username":"a"},{"id":2,"username":"b"}]}"#).expect("one");
    assert_eq!(short(view.apply(&event, |id| id == 1, Instant::now())), ["-2"]);
    assert!(view.has(1));
    assert_eq!(short(view.end_doubt(1, true, Instant::now())), [""; 0]);
    assert_eq!(short(view.end_doubt(1, false, Instant::now())), ["-1"], "they went before Redis heard of them again");
}

#[test]
fn users_whom_redis_has_forgotten_count_for_a_while() {
    let (mut view, now) = (view(), Instant::now());
    let until = now + Duration::from_secs(10);
    assert_eq!(short(view.reconcile(&state(&[1, 2, 3]), nobody, until)), ["+1", "+2", "+3"]);
    assert_eq!(short(view.reconcile(&state(&[3, 4]), |id| id == 2, until)), ["+4"]);
    assert_eq!(view.doubted().collect::<Vec<_>>(), [1]);
    assert_eq!(short(view.end_doubt(1, false, now)), [""; 0], "not yet");
    assert_eq!(short(view.end_doubt(1, false, until)), ["-1"]);
    assert_eq!(view.count(), 3);
}

#[test]
fn a_doubted_user_who_is_there_again_was_never_away() {
    let (mut view, until) = (view(), Instant::now());
    short(view.reconcile(&state(&[1]), nobody, until));
    short(view.reconcile(&state(&[]), nobody, until));
    assert_eq!(apply(&mut view, r#"{"seq":1,"join":[{"id":1,"username":"user-1"}]}"#), [""; 0]);
    assert_eq!(short(view.end_doubt(1, false, until)), [""; 0]);
    assert!(view.has(1));
}

#[test]
fn typing_is_told_when_it_begins_and_when_it_ends_in_whatever_way() {
    let mut view = view();
    let types = |until| format!(r#"{{"seq":1,"typing":[{{"user":{{"id":1,"username":"a"}},"until":{until}}}]}}"#);
    short(view.reconcile(&state(&[1]), nobody, Instant::now()));
    assert_eq!(apply(&mut view, &types(6000)), ["types 1"]);
    assert_eq!(apply(&mut view, &types(9000)), [""; 0], "renewed");
    assert_eq!((view.typing(Some(2)).len(), view.typing(Some(1)).len()), (1, 0));
    assert_eq!(short(view.end_typing(1, 6000)), [""; 0]);
    assert_eq!(short(view.end_typing(1, 9000)), ["stops 1"]);
    assert_eq!(apply(&mut view, &types(9000)), ["types 1"]);
    assert_eq!(apply(&mut view, r#"{"seq":2,"stopped":[1]}"#), ["stops 1"]);
    assert_eq!(apply(&mut view, &types(9000)), ["types 1"]);
    assert_eq!(apply(&mut view, r#"{"seq":3,"leave":[{"id":1,"username":"a"}]}"#), ["stops 1", "-1"]);
}

#[test]
fn typing_is_put_right_when_the_room_is_read() {
    let mut view = view();
    let typing = |typing: &[(i64, u64)]| RoomState { typing: typing.to_vec(), ..state(&[1, 2]) };
    assert_eq!(short(view.reconcile(&typing(&[(1, 5)]), nobody, Instant::now())), ["+1", "+2", "types 1"]);
    assert_eq!(short(view.reconcile(&typing(&[(2, 5)]), nobody, Instant::now())), ["stops 1", "types 2"]);
}

#[test]
fn a_list_of_users_ends_after_a_thousand() {
    let mut view = view();
    view.reconcile(&state(&(1..=1500).collect::<Vec<_>>()), nobody, Instant::now());
    assert_eq!((listed(&mut view).len(), view.count()), (1000, 1500));
}
