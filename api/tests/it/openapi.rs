//! The description of the API says what the API does.

use http::Method;

use crate::harness::{send, shared};

#[tokio::test]
async fn every_path_that_is_described_exists_and_answers_as_described_to_nobody() {
    let app = shared().await;
    let nobody = app.anonymous();
    let description = nobody.get("/api/openapi.json").await.json();
    assert_eq!(description["openapi"].as_str(), Some("3.1.0"));
    let paths = description["paths"].as_object().unwrap();
    let mut described = 0;
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer =
                send(nobody.request(method.clone(), &path.replace("{id}", "x").replace("{room}", "lobby"))).await;
            let statuses = operation["responses"].as_object().unwrap();
            assert!(statuses.contains_key(&answer.status.to_string()), "{method} {path}: {answer:?}");
            assert_eq!(statuses.contains_key("413"), operation.get("requestBody").is_some(), "{method} {path}");
            assert_eq!(statuses.contains_key("415"), operation.get("requestBody").is_some(), "{method} {path}");
            if !method.is_safe() {
                let foreign = nobody.request(method.clone(), &path.replace("{id}", "x").replace("{room}", "lobby"));
                send(foreign.header("origin", "https://evil.example")).await.assert_problem(403, "forbidden_origin");
                assert!(statuses["403"].to_string().contains("forbidden_origin"), "{method} {path}");
            }
            described += 1;
        }
    }
    assert!(described >= 16, "{described} operations");
}

#[tokio::test]
async fn the_page_comes_from_our_own_assets() {
    let app = shared().await;
    let page = send(app.anonymous().request(Method::GET, "/api/docs/")).await;
    let html = String::from_utf8_lossy(&page.body).into_owned();
    assert_eq!(page.status, 200, "{page:?}");
    assert!(!html.contains("https://") && html.contains("swagger-ui"), "{html}");
    for asset in ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        assert_eq!(app.anonymous().get(&format!("/api/docs/{asset}")).await.status, 200, "{asset}");
    }
}
