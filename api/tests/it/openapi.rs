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
            let answer = send(nobody.request(method.clone(), &path.replace("{id}", "x"))).await;
            let statuses = operation["responses"].as_object().unwrap();
            let is_described = statuses.contains_key(&answer.status.to_string()) || answer.status == 415;
            assert!(is_described, "{method} {path}: {answer:?}");
            described += 1;
        }
    }
    assert!(described >= 14, "{described} operations");
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
