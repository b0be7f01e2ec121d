//! Clients that generators make from the description of the API, and libraries that verify tokens, as others use them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::harness::{Door, TestApp, two_replicas, unhurried};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "https://api.example.com";

/// What a program says that succeeds.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said.trim().to_owned()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn programs() -> PathBuf {
    repository().join("api/tests/clients")
}

/// Where the programs of a kind are, which are installed if they are not.
fn tools(kind: &str) -> PathBuf {
    run(Command::new(repository().join("scripts/client-tools.sh")).arg(kind)).into()
}

/// What the replicas serve, in a file.
async fn description(app: &TestApp, folder: &Path) -> PathBuf {
    let path = folder.join("openapi.json");
    let answer = app.anonymous().at(Door::Nginx).get("/api/openapi.json").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    fs::write(&path, answer.body).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn a_client_that_is_generated_for_python_works() {
    let (app, tools, folder) =
        (TestApp::start(unhurried(two_replicas())).await, tools("python"), TempDir::new().unwrap());
    let description = description(&app, folder.path()).await;
    let mut generate = Command::new(tools.join("bin/openapi-python-client"));
    generate.args(["generate", "--meta", "none", "--path"]).arg(description).args(["--output-path", "gatefold"]);
    let said = run(generate.current_dir(folder.path()));
    assert!(!said.contains("parsing"), "something was left out: {said}");
    let mut client = Command::new(tools.join("bin/python"));
    client.arg(programs().join("client.py")).arg(app.url(Door::Nginx)).env("PYTHONPATH", folder.path());
    assert_eq!(run(&mut client), "used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn a_client_that_is_generated_for_typescript_is_typed_and_works() {
    let (app, tools, folder) =
        (TestApp::start(unhurried(two_replicas())).await, tools("node"), TempDir::new().unwrap());
    let description = description(&app, folder.path()).await;
    symlink(tools.join("node_modules"), folder.path().join("node_modules")).unwrap();
    for file in ["client.ts", "tsconfig.json", "package.json"] {
        fs::copy(programs().join(file), folder.path().join(file)).unwrap();
    }
    let tool = |name: &str| {
        let mut command = Command::new(tools.join("node_modules/.bin").join(name));
        command.current_dir(folder.path());
        command
    };
    run(tool("openapi-typescript").arg(description).args(["--output", "gatefold.d.ts"]));
    run(&mut tool("tsc"));
    assert_eq!(run(Command::new("node").arg(folder.path().join("client.js")).arg(app.url(Door::Nginx))), "used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn the_validators_of_authlib_and_jose_accept_access_tokens() {
    let cluster = unhurried(two_replicas()).env("ISSUER", ISSUER).env("AUDIENCE", AUDIENCE);
    let app = TestApp::start(cluster).await;
    let alice = app.signed_in("validators.alice").await;
    let (python, node) = (tools("python"), tools("node"));
    let arguments = [app.url(Door::Nginx), alice.access_token(), ISSUER, AUDIENCE];
    let mut authlib = Command::new(python.join("bin/python"));
    assert_eq!(run(authlib.arg(programs().join("verify.py")).args(arguments)), "verified");
    let folder = TempDir::new().unwrap();
    symlink(node.join("node_modules"), folder.path().join("node_modules")).unwrap();
    for file in ["verify.js", "package.json"] {
        fs::copy(programs().join(file), folder.path().join(file)).unwrap();
    }
    assert_eq!(run(Command::new("node").arg(folder.path().join("verify.js")).args(arguments)), "verified");
}
