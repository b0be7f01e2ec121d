//! What Nginx answered: it sends a line for each request, as syslog over a Unix socket (nginx/container/servers/counted.conf).
//! A line that does not fit into the socket is lost, and with it a count: Nginx waits for nobody.

use metrics::counter;
use tokio::net::UnixDatagram;

/// What stands before Nginx's own text; a tag of `access_log syslog:`.
const TAG: &[u8] = b" edge: ";

/// Values of the label `route`; Nginx names them so.
const ROUTES: &[&str] = &["login", "register", "refresh", "api", "ws", "page"];

/// One request, as Nginx saw it.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    status: u16,
    /// Whether a replica gave the answer, or Nginx by itself.
    by: &'static str,
    route: &'static str,
}

/// Counts for ever.
pub async fn count(socket: UnixDatagram) {
    let mut line = [0; 512];
    loop {
        let Ok(length) = socket.recv(&mut line).await else { continue };
        if let Some(Request { status, by, route }) = parse(&line[..length]) {
            counter!("gatefold_edge_requests_total", "route" => route, "status" => status.to_string(), "by" => by)
                .increment(1);
        }
    }
}

/// `STATUS ROUTE UPSTREAM-STATUS`: the last is empty or `-` where no replica was asked, and has a status for each that was.
fn parse(line: &[u8]) -> Option<Request> {
    let at = line.windows(TAG.len()).position(|window| window == TAG)? + TAG.len();
    let text = std::str::from_utf8(&line[at..]).ok()?.trim_end();
    let mut words = text.splitn(3, ' ');
    let status: u16 = words.next()?.parse().ok()?;
    let route = words.next()?;
    let route = ROUTES.iter().find(|known| **known == route)?;
    let last = words.next().unwrap_or_default().rsplit([',', ' ', ':']).next().unwrap_or_default();
    // What a replica did not answer, Nginx answers itself: 502, 504.
    let by = if last.parse() == Ok(status) && status < 502 || last == "503" { "replica" } else { "edge" };
    Some(Request { status, by, route })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(u16, &'static str, &'static str)> {
        let line = format!("<190>Dec  1 07:00:00 edge: {text}");
        parse(line.as_bytes()).map(|Request { status, by, route }| (status, by, route))
    }

    #[test]
    fn a_line_says_who_answered_what() {
        assert_eq!(parsed("200 login 200"), Some((200, "replica", "login")));
        assert_eq!(parsed("429 login -"), Some((429, "edge", "login")));
        assert_eq!(parsed("429 api 429"), Some((429, "replica", "api")));
        assert_eq!(parsed("200 refresh 504, 200"), Some((200, "replica", "refresh")));
        assert_eq!(parsed("502 api 502, 502"), Some((502, "edge", "api")));
        assert_eq!(parsed("503 ws 503"), Some((503, "replica", "ws")));
        assert_eq!(parsed("499 api -"), Some((499, "edge", "api")));
        assert_eq!(parsed("200 page "), Some((200, "edge", "page")));
        assert_eq!(parsed("200 /api/secret 200"), None);
        assert_eq!(parsed(""), None);
        assert_eq!(parse(b"anything"), None);
    }
}
