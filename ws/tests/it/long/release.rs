//! The previous release, built from the commit that `releases.txt` records.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use tokio::process::Command;

/// A release, and where its programs are.
pub struct Release {
    pub version: String,
    pub binaries: PathBuf,
}

impl Release {
    /// The last one, built where that was not done before. What is built stays in `target/releases` for the next run.
    pub async fn previous() -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
        let releases = std::fs::read_to_string(repository.join("releases.txt")).expect("releases.txt");
        let last = releases.lines().rfind(|line| !line.starts_with('#') && !line.is_empty()).expect("a release");
        let (version, commit) = last.split_once(' ').expect("a version and a commit");
        let folder = repository.join("target/releases").join(version);
        let release = Self { version: version.to_owned(), binaries: folder.join("target/debug") };
        let stamp = folder.join("built");
        if std::fs::read_to_string(&stamp).is_ok_and(|built| built == commit) {
            return release;
        }
        let started = Instant::now();
        println!("building {version} from {commit}");
        let source = folder.join("source");
        std::fs::remove_dir_all(&source).ok();
        std::fs::create_dir_all(&source).expect("a folder");
        let archive = folder.join("source.tar");
        let mut git = Command::new("git");
        run(git.arg("-C").arg(repository).args(["archive", "--output"]).arg(&archive).arg(commit)).await;
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source)).await;
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&source).args(["build", "--locked", "--bins", "-p", "gatefold-api", "-p", "gatefold-ws"]);
        // Not what the cargo that runs this test was given.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO") && name != "CARGO_HOME") {
            cargo.env_remove(name);
        }
        run(cargo.arg("--target-dir").arg(folder.join("target"))).await;
        std::fs::write(stamp, commit).expect("a file");
        println!("{version} was built in {:?}", started.elapsed());
        release
    }
}

async fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().await.expect("it can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
