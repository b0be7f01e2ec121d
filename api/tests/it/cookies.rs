//! The refresh cookie beside others: those of other applications, of other sessions, and of other names.

use http::{Method, header};

use crate::harness::{Answer, Door, PASSWORD, Requester, TestApp, eventually, send, shared, two_replicas, unhurried};

/// Sends these `Cookie` lines and no others.
async fn send_with(client: &Requester, path: &str, lines: &[String]) -> Answer {
    let mut anonymous = client.clone();
    anonymous.cookie = None;
    let mut request = anonymous.request(Method::POST, path);
    for line in lines {
        request = request.header(header::COOKIE, line);
    }
    send(request).await
}

/// What a response sets and clears: `name=path`, with `*` before what is set.
fn set_cookies(answer: &Answer) -> Vec<String> {
    let lines = answer.headers.get_all(header::SET_COOKIE).iter().map(|line| line.to_str().unwrap());
    let shown = lines.map(|line| {
        let (pair, attributes) = line.split_once("; ").unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        let path = attributes.split("Path=").nth(1).unwrap().split(';').next().unwrap();
        assert_eq!(value.is_empty(), line.ends_with("Max-Age=0"), "{line}");
        assert!(line.contains("; HttpOnly; SameSite=Strict;"), "{line}");
        assert!(!name.starts_with("__") || line.contains("; Secure;"), "{line}");
        format!("{}{name}={path}", if value.is_empty() { "" } else { "*" })
    });
    shown.collect()
}

fn named(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

/// The value of a cookie that is set.
fn value_of(answer: &Answer, name: &str) -> String {
    let lines = answer.headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.split(';').next());
    values.find(|value| !value.is_empty()).unwrap().to_owned()
}

async fn is_over(client: &Requester) -> bool {
    client.clone().refresh().await.summary() == "401 session_revoked"
}

#[tokio::test]
async fn a_foreign_cookie_hides_no_session_wherever_it_stands() {
    let app = shared().await;
    let mut alice = app.signed_in("cookies.foreign").await.at(Door::Replica(0));
    let foreign = "refreshToken=of-another-application".to_owned();
    for place in 0..4 {
        let own = named("refreshToken", alice.cookie());
        let lines = match place {
            0 => vec![format!("{foreign}; {own}")],
            1 => vec![format!("{own}; {foreign}")],
            2 => vec![foreign.clone(), own],
            _ => vec![own, foreign.clone(), "refreshToken=".to_owned()],
        };
        let answer = send_with(&alice, "/api/refresh", &lines).await;
        assert_eq!(answer.status, 200, "{place}: {answer:?}");
        assert_eq!(set_cookies(&answer), ["*refreshToken=/api"]);
        alice.cookie = answer.cookie();
    }
    let lines = [foreign.clone(), named("refreshToken", alice.cookie())];
    let answer = send_with(&alice, "/api/logout", &lines).await;
    assert_eq!((answer.status, set_cookies(&answer)), (200, vec!["refreshToken=/api".to_owned()]));
    assert_eq!(answer.json()["sessions"][0].as_str(), Some(alice.session().1.to_string().as_str()));
    assert!(is_over(&alice).await);
}

#[tokio::test]
async fn a_foreign_cookie_alone_is_refused_and_left_alone() {
    let app = shared().await;
    let nobody = app.anonymous().at(Door::Replica(0));
    for lines in [
        vec!["refreshToken=x".to_owned()],
        vec!["refreshToken=x; refreshToken=y".to_owned(), "refreshToken=z".to_owned()],
    ] {
        for path in ["/api/refresh", "/api/logout"] {
            let answer = send_with(&nobody, path, &lines).await;
            answer.assert_problem(401, "invalid_refresh_token");
            assert_eq!(set_cookies(&answer), [""; 0], "{path}");
        }
    }
    // Whoever says who they are otherwise does not lose it either.
    let alice = app.signed_in("cookies.alone").await.at(Door::Replica(0));
    let answer = send_with(&alice, "/api/logout-all", &["refreshToken=x".to_owned()]).await;
    assert_eq!((answer.status, answer.json()["revoked"].as_u64()), (200, Some(1)));
    assert_eq!(set_cookies(&answer), [""; 0]);
}

#[tokio::test]
async fn two_equal_cookies_are_one() {
    let app = shared().await;
    let alice = app.signed_in("cookies.equal").await.at(Door::Replica(0));
    let own = named("refreshToken", alice.cookie());
    let lines = [format!("{own}; {own}"), own.clone(), named("__Host-refreshToken", alice.cookie())];
    let answer = send_with(&alice, "/api/refresh", &lines).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(set_cookies(&answer), ["*refreshToken=/api", "__Host-refreshToken=/"]);
}

#[tokio::test]
async fn cookies_of_several_sessions_are_refused_until_a_logout_has_ended_them_all() {
    let app = shared().await;
    let victim = app.signed_in("cookies.victim").await.at(Door::Replica(0));
    let attacker = app.signed_in("cookies.attacker").await.at(Door::Replica(1));
    let own = named("refreshToken", victim.cookie());
    let planted = named("refreshToken", attacker.cookie());
    let lines = [format!("{own}; {planted}")];
    for lines in [&lines[..], &[planted.clone(), own.clone()]] {
        let answer = send_with(&victim, "/api/refresh", lines).await;
        answer.assert_problem(409, "several_refresh_tokens");
        assert_eq!(answer.json()["requireReauth"], false);
        assert_eq!(set_cookies(&answer), [""; 0]);
    }
    // Nothing was traded: each of them alone still works, and a copy of it is no replay.
    let answer = send_with(&victim, "/api/logout", &lines).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(set_cookies(&answer), ["refreshToken=/api", "refreshToken=/"], "they had different paths");
    assert_eq!(answer.json()["sessions"].as_array().map(Vec::len), Some(2));
    assert!(is_over(&victim).await && is_over(&attacker).await);
    for (client, name) in [(&victim, "cookies.victim"), (&attacker, "cookies.attacker")] {
        let again = app.logged_in(name).await;
        eventually("both have it in their events", async || {
            let events = again.get("/api/events?kind=logged_out").await.json();
            events["events"][0]["sessionId"].as_str() == Some(client.session().1.to_string().as_str())
        })
        .await;
    }

    // The planted cookie cannot be cleared by us: its session is over, and so it does not count beside a new one.
    let again = app.logged_in("cookies.victim").await.at(Door::Replica(0));
    let lines = [planted.clone(), named("refreshToken", again.cookie())];
    let answer = send_with(&again, "/api/refresh", &lines).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Alone it says what it is.
    let answer = send_with(&again, "/api/refresh", &[planted]).await;
    answer.assert_problem(401, "session_revoked");
    assert_eq!(set_cookies(&answer), ["refreshToken=/api"]);
}

#[tokio::test]
async fn of_two_generations_of_one_session_none_is_chosen_and_none_is_a_replay() {
    let app = shared().await;
    let old = app.signed_in("cookies.generations").await.at(Door::Replica(0));
    let mut current = old.clone();
    assert_eq!(current.refresh().await.status, 200);
    let lines = [named("refreshToken", old.cookie()), named("refreshToken", current.cookie())];
    send_with(&old, "/api/refresh", &lines).await.assert_problem(409, "several_refresh_tokens");
    assert_eq!(current.refresh().await.status, 200, "the session goes on");
}

/// More than anybody has by mistake: Redis is not asked about each of them.
#[tokio::test]
async fn very_many_cookies_are_refused_and_a_logout_ends_all_their_sessions() {
    let app = shared().await;
    let mut clients = vec![app.signed_in("cookies.many").await.at(Door::Replica(0))];
    while clients.len() < 9 {
        clients.push(app.logged_in("cookies.many").await.at(Door::Replica(0)));
    }
    let lines: Vec<_> = clients.iter().map(|client| named("refreshToken", client.cookie())).collect();
    send_with(&clients[0], "/api/refresh", &lines).await.assert_problem(409, "several_refresh_tokens");
    let answer = send_with(&clients[0], "/api/logout", &lines).await;
    assert_eq!(answer.json()["sessions"].as_array().map(Vec::len), Some(9), "{answer:?}");
    for client in &clients {
        assert!(is_over(client).await);
    }
    send_with(&clients[0], "/api/refresh", &lines[..3]).await.assert_problem(401, "session_revoked");
}

#[tokio::test]
async fn logging_out_everywhere_leaves_the_cookie_of_another_user_alone() {
    let app = shared().await;
    let alice = app.signed_in("cookies.alice").await.at(Door::Replica(0));
    let bob = app.signed_in("cookies.bob").await;
    let answer = send_with(&alice, "/api/logout-all", &[named("refreshToken", bob.cookie())]).await;
    assert_eq!((answer.status, set_cookies(&answer)), (200, Vec::new()));
    assert_eq!(bob.clone().refresh().await.status, 200);
}

/// The order of an update: the replicas are renamed one after the other, and the browser meets both in turn.
#[tokio::test]
async fn a_cookie_is_renamed_and_back_without_logging_anybody_out() {
    let host = "__Host-refreshToken";
    let app = TestApp::start(unhurried(two_replicas())).await;
    let renamed = TestApp::start(
        unhurried(two_replicas().api(1))
            .env("COOKIE_NAME", host)
            .env("COOKIE_SECURE", "true")
            .env("REFRESH_KEY_PATH", app.cluster.keys_dir().join("refresh.key").display().to_string())
            .env("REDIS_URL", app.cluster.redis_url()),
    )
    .await;
    let before = app.signed_in("cookies.renamed").await.at(Door::Replica(0));
    let after = renamed.anonymous().at(Door::Replica(0));
    let mut lines = [named("refreshToken", before.cookie())];
    for _ in 0..2 {
        let answer = send_with(&after, "/api/refresh", &lines).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(set_cookies(&answer), ["*__Host-refreshToken=/", "refreshToken=/api"]);
        lines = [named(host, &value_of(&answer, host))];
        let answer = send_with(&before, "/api/refresh", &lines).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let set = set_cookies(&answer);
        assert_eq!(set, ["*refreshToken=/api", "__Host-refreshToken=/"]);
        lines = [named("refreshToken", &value_of(&answer, "refreshToken"))];
    }
    let answer = send_with(&after, "/api/logout", &lines).await;
    assert_eq!((answer.status, set_cookies(&answer)), (200, vec!["refreshToken=/api".to_owned()]));
    lines = [named("__Secure-refreshToken", "x")];
    send_with(&after, "/api/refresh", &lines).await.assert_problem(401, "missing_refresh_token");
}

#[tokio::test]
async fn with_a_host_prefix_and_no_previous_name_other_names_are_not_looked_at() {
    let host = "__Host-refreshToken";
    let settings = [("COOKIE_NAME", host), ("COOKIE_SECURE", "true"), ("COOKIE_PREVIOUS_NAMES", "")];
    let builder =
        settings.iter().fold(unhurried(two_replicas().api(1)), |builder, (name, value)| builder.env(name, *value));
    let app = TestApp::start(builder).await;
    app.add_user("cookies.prefixed").await;
    let mut alice = app.anonymous().at(Door::Replica(0));
    let mut answer = alice.login("cookies.prefixed", PASSWORD).await;
    // A machine that stands still for some seconds is an outage.
    eventually("it is logged in", async || {
        if answer.status == 503 {
            answer = alice.login("cookies.prefixed", PASSWORD).await;
        }
        answer.status == 200
    })
    .await;
    assert_eq!(set_cookies(&answer), ["*__Host-refreshToken=/", "*__Host-refreshToken-device=/"]);
    let value = value_of(&answer, host);
    send_with(&alice, "/api/refresh", &[named("refreshToken", &value)])
        .await
        .assert_problem(401, "missing_refresh_token");
    let answer = send_with(&alice, "/api/refresh", &[named(host, &value), "refreshToken=x".to_owned()]).await;
    assert_eq!((answer.status, set_cookies(&answer)), (200, vec!["*__Host-refreshToken=/".to_owned()]));
    let value = value_of(&answer, host);
    let answer = send_with(&alice, "/api/logout", &[named(host, &value)]).await;
    assert_eq!((answer.status, set_cookies(&answer)), (200, vec!["__Host-refreshToken=/".to_owned()]));
}
