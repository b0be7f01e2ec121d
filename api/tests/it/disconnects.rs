//! Clients that disconnect in the middle of a request: what was changed for them is recorded all the same.

use std::{
    io::{Read, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use gatefold_cluster::Signal;
use sqlx::Connection;
use tokio::{io::AsyncWriteExt, net, task::spawn_blocking};

use crate::harness::{Door, PASSWORD, PATIENCE, Requester, TestApp, eventually, shared, two_replicas};

/// How often each change is asked for.
const ATTEMPTS: u32 = 10;

/// Something that changes an account, and the event that has to tell of it.
#[derive(Clone, Copy, Debug)]
enum Change {
    Logout,
    EndSession,
    LogoutAll,
    Replay,
    Password,
}

impl Change {
    const ALL: [Self; 5] = [Self::Logout, Self::EndSession, Self::LogoutAll, Self::Replay, Self::Password];

    fn event(self) -> &'static str {
        match self {
            Self::Logout => "logged_out",
            Self::EndSession => "session_ended",
            Self::LogoutAll => "logged_out_everywhere",
            Self::Replay => "refresh_token_reused",
            Self::Password => "password_changed",
        }
    }

    fn request(self, client: &Requester) -> String {
        let (_, session) = client.session();
        let (line, body) = match self {
            Self::Logout => ("POST /api/logout".to_owned(), String::new()),
            Self::EndSession => (format!("DELETE /api/sessions/{session}"), String::new()),
            Self::LogoutAll => ("POST /api/logout-all".to_owned(), String::new()),
            Self::Replay => ("POST /api/refresh".to_owned(), String::new()),
            Self::Password => {
                let passwords =
                    serde_json::json!({ "currentPassword": PASSWORD, "newPassword": "another long secret" });
                ("POST /api/password".to_owned(), passwords.to_string())
            }
        };
        format!(
            "{line} HTTP/1.1\r\nHost: x\r\nCookie: refreshToken={}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            client.cookie(),
            client.access_token(),
            body.len()
        )
    }

    /// A user for whom the change can be made.
    async fn client(self, app: &TestApp, number: u32) -> Requester {
        let name = format!("disconnect.{}-{number}", self.event());
        let client = app.signed_in(&name).await.at(Door::Replica(number as usize % 2));
        if matches!(self, Self::Replay) {
            assert_eq!(client.clone().refresh().await.status, 200);
        }
        client
    }

    async fn was_made(self, app: &TestApp, client: &Requester) -> bool {
        if matches!(self, Self::Password) {
            let query = "SELECT security_version > 0 FROM users WHERE id = $1";
            let query = sqlx::query_scalar(query).bind(client.session().0);
            return query.fetch_one(&mut app.postgres().await).await.unwrap();
        }
        app.redis_command(&["HGET", &client.family_key(), "state"]).await == "revoked"
    }
}

/// How many events of this kind there are about the user.
async fn recorded(app: &TestApp, client: &Requester, kind: &str) -> i64 {
    let query = sqlx::query_scalar("SELECT count(*) FROM events WHERE user_id = $1 AND kind = $2");
    query.bind(client.session().0).bind(kind).fetch_one(&mut app.postgres().await).await.unwrap()
}

/// Sends a request and disconnects after this time, or else when something was answered.
async fn send_for(client: &Requester, request: String, time: Option<Duration>) {
    let address = client.url().strip_prefix("http://").unwrap().to_owned();
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        match time {
            Some(time) => std::thread::sleep(time), // A moment, and nothing that could be awaited.
            None => drop(stream.read(&mut [0; 1]).unwrap()),
        }
    };
    spawn_blocking(exchange).await.unwrap();
}

#[tokio::test]
async fn whatever_clients_have_changed_that_then_disconnect_is_recorded() {
    let app = shared().await;
    let mut asked = Vec::new();
    for change in Change::ALL {
        let client = change.client(app, ATTEMPTS).await;
        let started = Instant::now();
        send_for(&client, change.request(&client), None).await;
        let takes = started.elapsed();
        for attempt in 0..ATTEMPTS {
            let client = change.client(app, attempt).await;
            send_for(&client, change.request(&client), Some(takes * attempt / ATTEMPTS)).await;
            asked.push((change, client));
        }
    }
    let mut made = 0;
    for (change, client) in &asked {
        let what = format!("{change:?} of user {} was not made or has its event", client.session().0);
        eventually(&what, async || {
            !change.was_made(app, client).await || recorded(app, client, change.event()).await == 1
        })
        .await;
        made += usize::from(change.was_made(app, client).await);
    }
    assert!(made >= asked.len() / 4, "{made} of {}", asked.len());
}

#[tokio::test]
async fn a_draining_replica_finishes_what_disconnected_clients_have_asked_for() {
    let app = TestApp::start(two_replicas().api(1).env("BACKEND_TIMEOUT", "20s")).await;
    let client = app.signed_in("disconnect.drain").await.at(Door::Replica(0));
    // The new password has to wait for this lock.
    let (mut holder, mut observer) = (app.postgres().await, app.postgres().await);
    let mut lock = holder.begin().await.unwrap();
    let row = sqlx::query("SELECT id FROM users WHERE id = $1 FOR UPDATE").bind(client.session().0);
    row.execute(&mut *lock).await.unwrap();
    let address = client.url().strip_prefix("http://").unwrap();
    let mut stream = net::TcpStream::connect(address).await.unwrap();
    stream.write_all(Change::Password.request(&client).as_bytes()).await.unwrap();
    eventually("it waits for the lock", async || {
        let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        sqlx::query_scalar(waiting).fetch_one(&mut observer).await.unwrap()
    })
    .await;
    drop(stream);
    app.cluster.signal("api-1", Signal::SIGTERM).unwrap();
    // It accepts for a moment, and then has no connection any more; what is left to do keeps it alive.
    eventually("it takes no connections", async || client.try_get("/api/health").await.is_err()).await;
    app.cluster.await_exit("api-1", Duration::from_secs(1)).await.expect_err("it waits for the lock");
    lock.rollback().await.unwrap();
    app.cluster.await_exit("api-1", PATIENCE).await.unwrap();
    assert!(Change::Password.was_made(&app, &client).await);
    assert_eq!(recorded(&app, &client, "password_changed").await, 1);
}
